"""Report on a candle file: its content and the rejected rows; every command that reads one prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypedDict

import numpy as np

from app.candles.batch import MINUTE_MS, CandleBatch, concatenate
from app.candles.validity import EXPLANATIONS, Reason

NOT_MINUTES = "not_minutes"
BAD_LINE = "bad_line"
_WORDS: Mapping[str, str] = {
    **{str(reason): words for reason, words in EXPLANATIONS.items()},
    Reason.BAD_TIME: "the open time is empty, not a time, or not from 2010 to 2100",
    Reason.BAD_SYMBOL: "the symbol is empty or invalid",
    Reason.BAD_TYPE: "a price, a volume or the trade count is text, or the trade count is not a whole number",
    NOT_MINUTES: "the candles of the symbol are not one minute apart",
    BAD_LINE: "the line has another number of fields than the first",
}
_NAMED = 3
_PLACES = 10


class FileReportDocument(TypedDict):
    """A `FileReport` as JSON."""

    rows: int
    refused: dict[str, int]
    unfinished: int
    out_of_order: int
    repeated: int
    changed: int
    missing_minutes: int
    renamed: dict[str, str]
    time_units: dict[str, int]
    not_minutes: dict[str, str]


@dataclass(slots=True)
class FileReport:
    """The report on one file, or on several read together.

    rows: in the file. refused: reason -> rows left out for it. places: the first of them, each with file, line and
    reason. unfinished: candles of a minute that was not over, left out. unordered: rows that stand before an earlier
    one. repeated, changed: rows for a minute that their symbol has already, with the same values or others. missing:
    minutes without a candle between the first and the last of each symbol; incomplete: how many symbols have some.
    renamed: spelling in the file -> symbol. units: unit -> rows whose time is in it. steps: symbol -> how far apart
    its candles are, for example 5m, if not a minute."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    unfinished: int = 0
    unordered: int = 0
    repeated: int = 0
    changed: int = 0
    missing: int = 0
    incomplete: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    _incomplete: set[int] = field(default_factory=set)
    _newest: CandleBatch | None = None
    """The last candle of each symbol so far."""

    @property
    def usable(self) -> int:
        return self.rows - self.refused.total() - self.unfinished

    def refuse(self, reason: str, count: int, places: Iterable[str]) -> None:
        """Count rows under a reason. places: where they are."""
        if count:
            self.refused[reason] += count
            room = _PLACES - len(self.places)
            self.places += [f"{place}: {reason}: {_WORDS[reason]}" for place in islice(places, room)]

    def note_units(self, units: Mapping[str, int]) -> None:
        for unit, count in units.items():
            self.units[unit] = self.units.get(unit, 0) + count

    def as_dict(self) -> FileReportDocument:
        return {
            "rows": self.rows,
            "refused": {str(reason): count for reason, count in self.refused.most_common()},
            "unfinished": self.unfinished,
            "out_of_order": self.unordered,
            "repeated": self.repeated,
            "changed": self.changed,
            "missing_minutes": self.missing,
            "renamed": self.renamed,
            "time_units": self.units,
            "not_minutes": self.steps,
        }

    def refusals(self) -> Iterator[str]:
        """Yield one line for each reason."""
        for reason, count in self.refused.most_common():
            why = _WORDS[reason]
            if reason == NOT_MINUTES:
                few = [f"{symbol} {step}" for symbol, step in list(self.steps.items())[:_NAMED]]
                more = len(self.steps) - len(few)
                why += f": {', '.join(few)}" + (f" and {more:,} more" if more else "")
            yield f"{count:,} of {self.rows:,} rows rejected as {reason}: {why}"

    def lines(self) -> Iterator[str]:
        """Return the lines to print; empty for a file without errors."""
        yield from self.refusals()
        if self.places:
            yield f"the first is {self.places[0]}"
        if self.unfinished:
            yield f"{self.unfinished:,} candles of a minute that was not over: left out"
        for unit, count in self.units.items():
            if unit != "milliseconds":
                yield f"column open_time_ms holds {unit} in {count:,} rows"
        if self.renamed:
            few = [f"{given} is {symbol}" for given, symbol in list(self.renamed.items())[:_NAMED]]
            more = len(self.renamed) - len(few)
            yield f"symbols: {', '.join(few)}" + (f" and {more:,} more" if more else "")
        if self.unordered:
            yield f"{self.unordered:,} rows are out of order: sorted by time"
        if self.repeated:
            yield f"{self.repeated:,} rows repeat a candle: they count once"
        if self.changed:
            yield f"{self.changed:,} rows repeat a minute with other values: the later row wins"
        if self.missing:
            yield f"{self.missing:,} minutes of {self.incomplete:,} symbols are missing: windows over them are null"

    def note_minutes(self, candles: CandleBatch) -> None:
        """Count repeated and missing minutes among the valid candles. May be called again with later
        minutes; always with the same symbols in the same order."""
        if self._newest is not None:
            candles = concatenate([self._newest, candles])
        order = np.lexsort((candles.open_time_ms, candles.symbol_index))
        index, times = candles.symbol_index[order], candles.open_time_ms[order]
        same_symbol = index[1:] == index[:-1]
        again = same_symbol & (times[1:] == times[:-1])
        equal = np.ones(len(again), np.bool_)
        for name in ("open", "high", "low", "close", "volume"):
            column = getattr(candles, name)[order]
            equal &= column[1:] == column[:-1]
        self.repeated += int(np.count_nonzero(again & equal))
        self.changed += int(np.count_nonzero(again & ~equal))
        between = np.where(same_symbol, np.maximum((times[1:] - times[:-1]) // MINUTE_MS - 1, 0), 0)
        self.missing += int(between.sum())
        self._incomplete.update(index[1:][between > 0].tolist())
        self.incomplete = len(self._incomplete)
        self._newest = candles.take(order[np.append(~same_symbol, True)] if len(order) else order)
