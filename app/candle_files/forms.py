"""The forms of candle files: parquet, feather, CSV, JSON, and zip archives of the last two.

Each is read in tables of bounded size, so that a file may be larger than memory. A zip is read without unpacking it.
"""

from __future__ import annotations

import codecs
import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from app.candle_files.json_rows import json_tables
from app.errors import BadInput

if TYPE_CHECKING:
    # in collections.abc from Python 3.12 on
    from typing_extensions import Buffer

PART_ROWS: Final = 50_000
_BLOCK_BYTES: Final = 1 << 20
_RAGGED_AT_MOST: Final = 100_000
_NAMED_CHARS: Final = 200
KLINE_COLUMNS: Final = (
    "open_time_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
"""Columns of exchange archives without a header, and of candles as JSON arrays; a file may have just the first
six."""
_KLINE_COLUMNS_AT_LEAST: Final = 6
_SUFFIXES: Final = (".parquet", ".feather", ".csv", ".json", ".zip")
_COMPRESSED: Final = (".gz", ".zst", ".bz2", ".lz4")
FAULTS: Final = (
    OSError, pa.ArrowException, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError
)  # fmt: skip
"""The libraries' errors for a damaged, cut or encrypted file."""


@dataclass(slots=True)
class Part:
    """Some rows of a file, in its order. word, before: row r of the table (from 0) is "line" or "row"
    `before + r + 1` of the file, not counting `ragged`."""

    table: pa.Table
    before: int
    word: Literal["line", "row"]
    ragged: list[int] = field(default_factory=list)
    """Line numbers, so far, of the lines with another number of fields than the first; they are in no table."""
    share: float = 0.0
    """How much of the file is read, 0 to 1; 0 where that is not known."""

    def place(self, row: int) -> str:
        number = self.before + row + 1
        for ragged in self.ragged:
            if ragged > number:
                break
            number += 1
        return f"{self.word} {number:,}"


@dataclass(frozen=True, slots=True)
class Content:
    """One file, or one member of a zip. name: for messages. file_name: may name the market."""

    name: str
    file_name: str
    parts: Callable[[], Iterator[Part]]
    """Raises BadInput or one of FAULTS."""


def is_candle_file(path: Path) -> bool:
    """Return whether the suffix is one of candle files."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        return suffixes[-2:-1] in ([".csv"], [".json"])
    return bool(suffixes) and suffixes[-1] in _SUFFIXES


def contents(path: Path) -> list[Content]:
    """Return the file's contents: itself, or the members of a zip. Raises BadInput."""
    try:
        with path.open("rb") as file:
            begins = file.read(8)
        suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
        if begins[:4] == b"PK\x03\x04" or ".zip" in suffixes[-1:]:
            return _members(path)
    except FAULTS as error:
        raise unreadable(path, error) from error
    if begins[:4] == b"PAR1" or ".parquet" in suffixes:
        return [Content(str(path), path.name, lambda: _parquet(path))]
    if begins[:6] == b"ARROW1" or ".feather" in suffixes:
        return [Content(str(path), path.name, lambda: _feather(path))]
    read = _json if ".json" in suffixes else _csv if ".csv" in suffixes else None
    if read is None:
        raise BadInput(
            "file_unreadable",
            f"{path} is not a readable parquet, feather, CSV or JSON file, nor a zip of those",
        )
    return [Content(str(path), path.name, lambda: _opened(path, read))]


def unreadable(name: Path | str, error: Exception) -> BadInput:
    return BadInput("file_unreadable", f"{name} is not a readable candle file: {error}")


def _members(path: Path) -> list[Content]:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    found = []
    for name in names:
        read = {"csv": _csv, "json": _json}.get(name.lower().rpartition(".")[2])
        if read is not None:
            found.append(_member(path, name, read))
    if not found:
        raise BadInput("file_unreadable", f"{path} has no CSV or JSON file in it")
    return found


def _member(path: Path, name: str, read: Callable[[BinaryIO], Iterator[Part]]) -> Content:
    def parts() -> Iterator[Part]:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            yield from _with_shares(cast("BinaryIO", member), archive.getinfo(name).file_size, read)

    return Content(f"{path}/{name}", name.rpartition("/")[2], parts)


def _opened(path: Path, read: Callable[[BinaryIO], Iterator[Part]]) -> Iterator[Part]:
    compressed = path.suffix.lower() in _COMPRESSED
    with _decompressed(path) as file:
        yield from read(file) if compressed else _with_shares(file, path.stat().st_size, read)


def _with_shares(file: BinaryIO, size: int, read: Callable[[BinaryIO], Iterator[Part]]) -> Iterator[Part]:
    for part in read(file):
        part.share = min(1.0, file.tell() / max(1, size))
        yield part


@contextmanager
def _decompressed(path: Path) -> Iterator[BinaryIO]:
    with pa.input_stream(str(path), compression="detect") as stream:
        yield cast("BinaryIO", stream)


def _parquet(path: Path) -> Iterator[Part]:
    with pyarrow.parquet.ParquetFile(path) as file:
        before = 0
        batches = file.iter_batches(batch_size=PART_ROWS, use_threads=False)
        yield Part(file.schema_arrow.empty_table(), 0, "row")
        for batch in batches:
            rows = file.metadata.num_rows
            yield Part(pa.Table.from_batches([batch]), before, "row", share=(before + len(batch)) / rows)
            before += len(batch)


def _feather(path: Path) -> Iterator[Part]:
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
        yield Part(file.schema.empty_table(), 0, "row")
        before = 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            for begin in range(0, len(batch), PART_ROWS):
                rows = batch.slice(begin, PART_ROWS)
                share = (number + (begin + len(rows)) / len(batch)) / file.num_record_batches
                yield Part(pa.Table.from_batches([rows]), before, "row", share=share)
                before += len(rows)


def _json(file: BinaryIO) -> Iterator[Part]:
    before = 0
    for table in json_tables(file, KLINE_COLUMNS, _KLINE_COLUMNS_AT_LEAST):
        yield Part(table, before, "row")
        before += table.num_rows


def _csv(file: BinaryIO) -> Iterator[Part]:
    """Yield parts whose fields are all text: a type inferred from the first lines would fail at the first line of
    another type."""
    whole = io.BufferedReader(_Utf8(file), _BLOCK_BYTES)
    first = whole.peek(_BLOCK_BYTES).removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    fields = next(csv.reader([first.decode("utf-8", "replace").strip()]), [])
    names, header = _column_names(fields)
    ragged: list[int] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        # an error raised here is lost
        ragged.append(row.number)
        return "skip"

    reader = pyarrow.csv.open_csv(
        whole,
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows=header
        ),
        parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    before = header
    for batch in reader:
        yield Part(pa.Table.from_batches([batch]), before, "line", ragged)
        before += len(batch)
        if len(ragged) > _RAGGED_AT_MOST:
            raise BadInput(
                "file_unreadable",
                f"more than {_RAGGED_AT_MOST:,} lines have another number of fields than the first",
            )
    yield Part(reader.schema.empty_table(), before, "line", ragged)


def _column_names(fields: list[str]) -> tuple[list[str], int]:
    """Return the columns, and how many lines are the header. Raises BadInput."""
    named = [name.strip() for name in fields]
    if named and not named[0].lstrip("-")[:1].isdigit():
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise BadInput("file_columns", f"line 1 has the column {twice[:_NAMED_CHARS]!r} twice")
        return named, 1
    if not _KLINE_COLUMNS_AT_LEAST <= len(named) <= len(KLINE_COLUMNS):
        raise BadInput("file_columns", f"line 1 has {len(named)} fields and names no columns")
    return list(KLINE_COLUMNS[: len(named)]), 0


class _Utf8(io.RawIOBase):
    """The bytes of a file, with replacement characters for invalid UTF-8: Arrow cannot name invalid lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        room = memoryview(buffer)
        ended = False
        while not self._ready and not ended:
            data = self._file.read(len(room))
            ended = not data
            self._ready = self._decoder.decode(data, final=ended).encode()
        now, self._ready = self._ready[: len(room)], self._ready[len(room) :]
        room[: len(now)] = now
        return len(now)
