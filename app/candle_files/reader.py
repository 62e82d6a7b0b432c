"""Candle files as people have them: one reader for every command, and one validity: that of candles on NATS.

A file is an archive of the exchange, a file of freqtrade or of ccxt, or has our own columns: symbol, open_time_ms,
open, high, low, close, volume and, if known, quote_volume, trades, taker_buy_volume, taker_buy_quote_volume, exchange.
`app.candle_files.forms` knows the forms. A row that is no valid candle is left out and counted by its reason.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from app.candle_files.forms import FAULTS, Content, contents, is_candle_file, unreadable
from app.candle_files.names import market_of
from app.candle_files.parts import Intake, KnownSymbols
from app.candle_files.report import FileReport
from app.candle_files.time_order import MEMORY_ROWS, TimeOrder
from app.candles.batch import CandleBatch, concatenate
from app.clock import SystemClock
from app.errors import BadInput


@dataclass(frozen=True, slots=True)
class CandleFileRead:
    """candles: the valid ones, closed, in order of time, then as they stand. report: on all rows of the file."""

    candles: CandleBatch
    report: FileReport


def read_candle_file(path: Path, now_ms: int | None = None) -> CandleFileRead:
    """Return the valid candles of a file, in memory, and the report on all rows. now_ms, errors: as `CandleFiles`."""
    with CandleFiles([path], skip_bad=True, now_ms=now_ms, memory_rows=sys.maxsize) as files:
        return CandleFileRead(files.whole(), files.report)


def read_candles(path: Path) -> CandleBatch:
    """Return the valid candles of a file, as `read_candle_file` reads them."""
    return read_candle_file(path).candles


@dataclass(frozen=True, slots=True)
class ReadSoFar:
    """bytes_read: about so many of `bytes_of_all`. candles: valid ones."""

    bytes_read: int
    bytes_of_all: int
    candles: int


class CandleFiles:
    """The valid candles of files read together, in order of time; only a part of them is in memory at once.

    report: on all rows. symbols, exchange: of all candles. `close` removes the temporary folder of large files.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        skip_bad: bool,
        now_ms: int | None = None,
        memory_rows: int = MEMORY_ROWS,
        on_read: Callable[[ReadSoFar], None] = lambda _: None,
    ) -> None:
        """Read all files, including those of folders among `paths`. skip_bad: leave out and count rows that are no
        valid candles. now_ms: the clock, UTC ms, by default this machine's: a candle of the future is not valid.
        on_read: called with the progress after each part of a file.

        Raises BadInput with the fault if a file has another form, if a row is no valid candle and `skip_bad` is
        false, or if no row can be used.
        """
        self.report = FileReport()
        self._skip_bad = skip_bad
        self._now_ms = SystemClock().now_ms() if now_ms is None else now_ms
        self._symbols = KnownSymbols()
        self._exchanges: set[str] = set()
        self._order = TimeOrder(memory_rows)
        self._rows = 0
        self._on_read = on_read
        try:
            self._read_all(paths)
        except BaseException:
            self.close()
            raise

    def _read_all(self, paths: Sequence[Path]) -> None:
        files = list(_files_of(paths))
        sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
        before, of_all = 0, sum(sizes)
        for path, size in zip(files, sizes, strict=True):
            inside = contents(path)
            for number, content in enumerate(inside):
                for share in self._read(content):
                    done = before + int((number + share) / len(inside) * size)
                    self._on_read(ReadSoFar(done, of_all, self._rows))
            before += size
            self._on_read(ReadSoFar(before, of_all, self._rows))
        self.report.renamed = self._symbols.renamed()
        if self.report.rows and not self.report.usable:
            named = ", ".join(map(str, paths))
            raise BadInput("file_unusable", "\n".join((f"{named} has no valid candle", *self.report.lines())))
        for span in self._spans():
            self.report.note_minutes(span)

    def _read(self, content: Content) -> Iterator[float]:
        """Yield how much of the content is read, after each part."""
        intake = Intake(content, self._symbols, self._exchanges, self.report, self._now_ms)
        try:
            for part in content.parts():
                candles = intake.take(part)
                self._rows += len(candles)
                self._order.add(candles)
                if self.report.refused and not self._skip_bad:
                    raise _refused(self.report)
                yield part.share
        except BadInput as error:
            if content.name in str(error):
                raise
            raise BadInput(error.reason, f"{content.name}: {error}") from error
        except FAULTS as error:
            raise unreadable(content.name, error) from error

    def __len__(self) -> int:
        return self._rows

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols.names

    @property
    def exchange(self) -> str:
        """The exchange of all rows; binance if no file names one."""
        return self.exchange_named or "binance"

    @property
    def exchange_named(self) -> str | None:
        """The exchange of all rows; None if no file names one."""
        return next(iter(self._exchanges), None)

    def parts(self, rows_at_least: int) -> Iterator[CandleBatch]:
        """Yield the candles in order of time, in parts of whole minutes, as often as asked."""
        held: list[CandleBatch] = []
        for span in self._spans():
            held.append(span)
            if sum(map(len, held)) >= rows_at_least:
                yield from by_minutes(_one(held), rows_at_least)
                held = []
        if held:
            yield from by_minutes(_one(held), rows_at_least)

    def whole(self) -> CandleBatch:
        """Return all candles at once, with only the symbols that occur in them."""
        spans = list(self._spans())
        return _one(spans).compact()

    def _spans(self) -> Iterator[CandleBatch]:
        return self._order.spans(self.symbols, self.exchange)

    def close(self) -> None:
        self._order.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _one(batches: list[CandleBatch]) -> CandleBatch:
    return batches[0] if len(batches) == 1 else concatenate(batches)


def _refused(report: FileReport) -> BadInput:
    return BadInput(
        "file_unusable",
        "\n".join((*report.places, *report.refusals(), "to leave out and count such rows: --skip-bad")),
    )


def _files_of(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files and, for each folder, its files that may hold candles of minutes, in order of their names."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = [file for file in sorted(path.rglob("*")) if file.is_file() and is_candle_file(file)]
        of_minutes = [file for file in inside if market_of(file.name).refused is None]
        if not of_minutes:
            other = f", only {len(inside)} of other candles" if inside else ""
            raise BadInput("file_unreadable", f"{path} has no files of one-minute candles{other}")
        yield from of_minutes


def by_minutes(candles: CandleBatch, rows_at_least: int) -> Iterator[CandleBatch]:
    """Yield the candles in order of time, in parts of whole minutes: the fewest that reach `rows_at_least` rows."""
    begin = 0
    for start in (np.flatnonzero(np.diff(candles.open_time_ms)) + 1).tolist():
        if start - begin >= rows_at_least:
            yield candles.take(slice(begin, start))
            begin = start
    if begin < len(candles):
        yield candles.take(slice(begin, len(candles)))
