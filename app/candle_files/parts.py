"""From a part of a file, a table, to the valid candles in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from app.candle_files.columns import counts, numbers, open_times, texts
from app.candle_files.forms import Content, Part
from app.candle_files.names import market_of
from app.candle_files.report import BAD_LINE, NOT_MINUTES, FileReport
from app.candles.batch import MINUTE_MS, BoolArray, CandleBatch, FloatArray, IndexArray, IntArray
from app.candles.open_times import NO_TIME, interval_words, steps_ms
from app.candles.symbols import plain_symbol
from app.candles.validity import Reason, check
from app.errors import BadInput

_REQUIRED: Final = ("symbol", "open_time_ms", "open", "high", "low", "close", "volume")
_NUMBERS: Final = (*_REQUIRED[2:], "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
_ALIASES: Final[Mapping[str, str]] = {
    "open_time": "open_time_ms",
    "date": "open_time_ms",
    "datetime": "open_time_ms",
    "time": "open_time_ms",
    "timestamp": "open_time_ms",
    "count": "trades",
    "number_of_trades": "trades",
    "quote_asset_volume": "quote_volume",
    "taker_buy_base_asset_volume": "taker_buy_volume",
    "taker_buy_quote_asset_volume": "taker_buy_quote_volume",
}
"""Names of our columns at exchanges and in other programs."""
_ENDS_EARLY_MS: Final = 1_000
_CLOCKS_DIFFER_MS: Final = 5_000
_ROWS_THAT_SHOW_MINUTES: Final = 100


class KnownSymbols:
    """The symbols of all files read together, each with its one spelling."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    def renamed(self) -> dict[str, str]:
        return {text: symbol for symbol, (_, text) in self._known.items() if text != symbol}

    def position(self, text: str) -> int:
        """Return where the symbol is in `names`, -1 if the text is no symbol. Raises ValueError if two spellings are
        one symbol: they may be different markets."""
        symbol = plain_symbol(text)
        if symbol is None:
            return -1
        position, before = self._known.setdefault(symbol, (len(self._known), text))
        if before != text:
            raise ValueError(f"symbol: {before} and {text} are both {symbol}, remove one of them")
        return position


class Intake:
    """Reads the parts of one file, in order, and counts in `report`."""

    def __init__(
        self, content: Content, symbols: KnownSymbols, exchanges: set[str], report: FileReport, now_ms: int
    ) -> None:
        """symbols, exchanges: of all files read together; this file's are added. now_ms: the clock, UTC ms."""
        self._name = content.name
        self._market = market_of(content.file_name)
        self._symbols = symbols
        self._exchanges = exchanges
        self._report = report
        self._now_ms = now_ms
        self._last_ms = 0
        self._ragged = 0
        self._not_minutes: set[int] = set()
        self._minutes: set[int] = set()
        """Positions of the symbols whose candles, by enough rows of this file, are one minute apart."""

    def take(self, part: Part) -> CandleBatch:
        """Return the valid candles of the part, in order of time, then of rows; their symbols are the known ones
        so far. Raises BadInput if columns are missing or of the wrong kind."""
        table = self._with_our_names(part.table)
        missing = [name for name in _REQUIRED if name not in table.column_names]
        if missing:
            hint = "; no market is in its name" if "symbol" in missing else ""
            raise BadInput(
                "file_columns",
                f"{self._name} lacks the columns {', '.join(missing)}{hint}; "
                f"it has {', '.join(part.table.column_names)[:200]}",
            )
        self._report.rows += table.num_rows
        self._note_ragged(part)
        try:
            candles, rows, close_ms = self._batch(table, part)
            self._note_exchange(table)
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise BadInput("file_columns", f"{self._name} has an invalid column: {error}") from error
        return self._valid(candles, rows, close_ms, part)

    def _with_our_names(self, table: pa.Table) -> pa.Table:
        """Return the table with our names of columns, and with a symbol from the file's name if it has none."""
        names = []
        for name in table.column_names:
            low = name.strip().lower()
            ours = _ALIASES.get(low, low)
            names.append(name if ours in names or (ours != name and ours in table.column_names) else ours)
        table = table.rename_columns(names)
        if "symbol" in names:
            return table
        if self._market.refused is not None:
            raise BadInput("file_columns", f"{self._name} has {self._market.refused}")
        if self._market.market is None:
            return table
        one = pa.array([self._market.market], pa.string())
        index = pa.array(np.zeros(table.num_rows, np.int32))
        return table.append_column("symbol", pa.DictionaryArray.from_arrays(index, one))

    def _note_ragged(self, part: Part) -> None:
        new = part.ragged[self._ragged :]
        self._ragged = len(part.ragged)
        self._report.rows += len(new)
        self._report.refuse(BAD_LINE, len(new), (f"{self._name}, line {number:,}" for number in new))

    def _batch(self, table: pa.Table, part: Part) -> tuple[CandleBatch, IntArray, IntArray]:
        """Return the rows that have a time, a symbol and numbers, in order of time; which rows of the part they are;
        and when their candles closed, UTC ms, NO_TIME where the file does not tell."""
        symbol_index = self._symbol_index(table)
        times = open_times(table.column("open_time_ms"))
        self._report.note_units(times.units)
        columns, trades, unread = _values(table)
        refused = np.zeros(table.num_rows, np.bool_)
        everything = np.arange(table.num_rows)
        for reason, bad in (
            (Reason.BAD_SYMBOL, symbol_index < 0),
            (Reason.BAD_TIME, times.open_ms == NO_TIME),
            (Reason.BAD_TYPE, unread),
        ):
            self._refuse(refused, reason, bad, everything, part)
        rows = np.flatnonzero(~refused)
        ordered_ms = times.open_ms[rows]
        self._report.unordered += int(np.count_nonzero(np.diff(ordered_ms, prepend=self._last_ms) < 0))
        self._last_ms = int(ordered_ms[-1]) if len(rows) else self._last_ms
        rows = rows[np.argsort(ordered_ms, kind="stable")]
        columns = {name: column[rows] for name, column in columns.items()}
        estimated = _estimate_quote_volume(columns)
        open_time_ms = times.open_ms[rows]
        candles = CandleBatch(
            exchange="binance",
            symbols=self._symbols.names,
            symbol_index=symbol_index[rows],
            open_time_ms=open_time_ms,
            trades=trades[rows],
            quote_estimated=estimated,
            closed=np.ones(len(rows), dtype=np.bool_),
            event_ts_ms=open_time_ms + MINUTE_MS,
            ingest_ts_ms=np.zeros(len(rows), dtype=np.int64),
            **columns,
        )
        if "close_time" not in table.column_names:
            return candles, rows, np.full(len(rows), NO_TIME, np.int64)
        return candles, rows, open_times(table.column("close_time")).open_ms[rows]

    def _symbol_index(self, table: pa.Table) -> IndexArray:
        """(rows,): the position of the row's symbol, -1 without one."""
        given, index = texts(table.column("symbol"))
        position = np.array([*map(self._symbols.position, given), -1], np.int32)
        found: IndexArray = position[index]
        return found

    def _valid(self, candles: CandleBatch, rows: IntArray, close_ms: IntArray, part: Part) -> CandleBatch:
        """Return the valid candles, without symbols whose candles are not one minute apart."""
        refused = np.zeros(len(candles), np.bool_)
        self._look_at_steps(candles)
        if self._not_minutes:
            others = np.isin(candles.symbol_index, list(self._not_minutes))
            self._refuse(refused, NOT_MINUTES, others, rows, part)
        half = _unfinished(candles, close_ms, self._now_ms) & ~refused
        if half.any():
            self._report.unfinished += int(np.count_nonzero(half))
            refused |= half
        for bad, reason in check(candles, self._now_ms):
            self._refuse(refused, reason, bad, rows, part)
        return candles.take(~refused) if refused.any() else candles

    def _look_at_steps(self, candles: CandleBatch) -> None:
        known = self._minutes | self._not_minutes
        rows_of = np.bincount(candles.symbol_index, minlength=len(candles.symbols))
        if not set(np.flatnonzero(rows_of).tolist()) - known:
            return
        steps = steps_ms(candles.open_time_ms, candles.symbol_index, len(candles.symbols))
        for at in np.flatnonzero(rows_of).tolist():
            if at in known:
                continue
            if steps[at] != MINUTE_MS:
                self._not_minutes.add(at)
                self._report.steps[candles.symbols[at]] = interval_words(int(steps[at]))
            elif rows_of[at] >= _ROWS_THAT_SHOW_MINUTES:
                self._minutes.add(at)

    def _refuse(self, refused: BoolArray, reason: str, bad: BoolArray, rows: IntArray, part: Part) -> None:
        """Count the rows under their first fault, and mark them. rows: where they are in the part."""
        found = rows[bad & ~refused]
        if len(found):
            places = (f"{self._name}, {part.place(int(row))}" for row in np.sort(found))
            self._report.refuse(reason, len(found), places)
            refused |= bad

    def _note_exchange(self, table: pa.Table) -> None:
        if "exchange" in table.column_names:
            self._exchanges |= {name for name in texts(table.column("exchange"))[0] if name}
        if len(self._exchanges) > 1:
            raise ValueError(f"more than one exchange: {', '.join(sorted(self._exchanges))}")


def _values(table: pa.Table) -> tuple[dict[str, FloatArray], IntArray, BoolArray]:
    """Return prices and volumes by name, the trades, and which rows hold something else in one of them."""
    trades, unread = counts(table, "trades")
    columns = {}
    for name in _NUMBERS:
        columns[name], bad = numbers(table, name)
        unread |= bad
    return columns, trades, unread


def _estimate_quote_volume(columns: dict[str, FloatArray]) -> BoolArray:
    """Fill in the quote volume where the file does not tell it; return where."""
    estimated = np.isnan(columns["quote_volume"])
    with np.errstate(over="ignore", invalid="ignore"):
        typical = (columns["high"] + columns["low"] + columns["close"]) / 3
        columns["quote_volume"] = np.where(estimated, columns["volume"] * typical, columns["quote_volume"])
    return estimated


def _unfinished(candles: CandleBatch, close_ms: IntArray, now_ms: int) -> BoolArray:
    """(rows,): whether the candle was still forming when the file was written: it closed before its minute did, or
    its minute is not over. Most files that were fetched from an exchange end with one."""
    ends_ms = candles.open_time_ms + MINUTE_MS
    early = (close_ms != NO_TIME) & (close_ms > candles.open_time_ms) & (close_ms < ends_ms - _ENDS_EARLY_MS)
    ahead = candles.open_time_ms <= now_ms + MINUTE_MS
    running = (ends_ms > now_ms + _CLOCKS_DIFFER_MS) & ahead
    unfinished: BoolArray = early | running
    return unfinished
