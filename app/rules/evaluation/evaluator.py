"""The evaluation of a book over frames of metrics, with the memory of its rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import MINUTE_MS, BoolArray, FloatArray
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market.rings.packing import decode, encode
from app.rules.evaluation.clauses import ALL_ROWS, ClauseEvaluator
from app.rules.evaluation.matches import NO_MATCHES, Matches
from app.rules.evaluation.memory import (
    NEVER,
    HeldSince,
    Positions,
    SymbolFilter,
    SymbolRegister,
    rounds,
)
from app.rules.evaluation.past import is_of_bars
from app.rules.evaluation.program import Cells, Gather, fill_moments, fill_rows_of, where_all
from app.rules.evaluation.returns import ReturnsMemory
from app.rules.evaluation.rulebook import RuleBook, RuleFault
from app.rules.evaluation.slot_memory import SlotMemory
from app.rules.evaluation.slots import PreviousSlot, Slot
from app.rules.language.tree import WithReference
from app.rules.language.walks import walk
from app.rules.rule import Rule

SNAPSHOT_VERSION = 2
BARS_VERSION: Final = 1


class Evaluator:
    """Evaluates a book over batches in order, remembering the state of prev(), crossings and holds.

    Feed it every batch of its shard once, in order; a batch fed twice gives the same matches again for its
    newest minute. The memory is per symbol and can be saved and restored.

    A rule that raises matches nothing in that batch and is left out of the following ones until the next `swap`;
    the others are not affected. It is among `faults`.
    """

    def __init__(self, book: RuleBook) -> None:
        self.memory = SlotMemory()
        self._holds: dict[str, HeldSince] = {}
        self._cells: Cells = []
        self.returns = ReturnsMemory()
        self.swap(book)

    @property
    def book(self) -> RuleBook:
        return self._book

    @property
    def faults(self) -> tuple[RuleFault, ...]:
        """The rules of the book that raised."""
        return tuple(self._faults.values())

    def lacking(self, book: RuleBook) -> list[Rule]:
        """Return the rules of a book that need history that is not in memory."""
        over_time = set(book.rules_of(self.memory.past.lacking(book.slots)))
        return [rule for rule in book.rules if rule in over_time or self.lacks_returns(rule)]

    def lacks_returns(self, rule: Rule) -> bool:
        """Return whether its corr() or beta() need more minutes than are in memory."""
        calls = (node for node in walk(rule.condition()) if isinstance(node, WithReference))
        return max((call.minutes for call in calls), default=0) > self.returns.known_minutes

    def swap(self, book: RuleBook, warm: Evaluator | None = None) -> None:
        """Evaluate `book` from now on. Keep the state of the rules in both books.

        warm: an evaluator of `book` that has seen the history; memory that is lacking here is taken from it.
        """
        lacking = self.memory.past.lacking(book.slots)
        known = self.memory.previous.planes
        operands = [
            slot.text for slot in book.slots if isinstance(slot, PreviousSlot) and slot.text not in known
        ]
        self._book = book
        self._faults: dict[int, RuleFault] = {}
        self._gather = Gather(dict(book.columns))
        self._clauses = ClauseEvaluator(book.clauses)
        self.memory.keep(book.slots)
        if warm is not None:
            self.memory.take(warm.memory, lacking, operands)
        keys = {found.hold_key: found.rule.hold_s * 1000 for found in book.compiled if found.hold_key}
        self._holds = {key: self._holds.get(key) or HeldSince(hold_ms) for key, hold_ms in keys.items()}
        self._remembers = bool(book.slots or self._holds)
        self.returns.swap(book.moving_with)
        if warm is not None:
            self.returns.complete(warm.returns)
        chosen = {found.symbols for found in book.compiled if found.symbols is not None}
        self._filters = {symbols: SymbolFilter(symbols) for symbols in chosen}

    def evaluate(self, batch: MetricsBatch) -> Matches:
        """Return every (row, rule) whose condition is true: live rules at every row, close rules at closed rows."""
        if not len(batch) or not self._book.compiled:
            return NO_MATCHES
        with np.errstate(all="ignore"):
            cells: Cells = list(self._book.template)
            block = self._gather.into(cells, batch.values, batch.columns)
            self.returns.fill(cells, batch)
            fill_rows_of(cells, self._book.rows_of, batch)
            needs_symbols = self._remembers or self._filters
            symbols = self.memory.symbols.positions(batch) if needs_symbols else NO_MATCHES.row
            fill_moments(cells, self._book.moments, batch)
            turns = self._remember(batch, cells, symbols) if self._remembers else []
            self._cells = cells
            possible = self._book.bounds.possible(block)
            possible[self._book.always] = True
            if self._faults:
                possible[list(self._faults)] = False
            candidates = np.flatnonzero(possible)
            if not len(candidates):
                return Matches(NO_MATCHES.row, NO_MATCHES.rule, self._book, cells)
            closed = None if batch.closed.all() else batch.closed
            compiled = self._book.clauses.compiled[candidates]
            found: list[tuple[Positions, Positions]] = []
            try:
                found.append(self._compiled_matches(block, cells, symbols, closed, candidates[compiled]))
            except MemoryError:
                raise
            except Exception:
                # one rule must not stop the others: evaluated one by one, the rule that raises is left out alone
                compiled[:] = False
            found += self._other_matches(batch, cells, symbols, turns, closed, candidates[~compiled].tolist())
            return _in_row_order(found, self._book, cells)

    def _remember(self, batch: MetricsBatch, cells: Cells, symbols: Positions) -> list[Positions]:
        known = len(self.memory.symbols)
        for hold in self._holds.values():
            hold.grow(known)
        if self._book.slots:
            self.memory.fill(self._book.slots, batch, cells, self._slot_failed)
        return rounds(symbols) if self._holds else []

    def _slot_failed(self, slot: Slot, error: Exception) -> None:
        for position in self._book.rules_reading(slot):
            self._fail(position, error)

    def _fail(self, position: int, error: Exception) -> None:
        self._faults.setdefault(position, RuleFault.of(self._book.rules[position], error))

    def _compiled_matches(
        self, block: FloatArray, cells: Cells, symbols: Positions, closed: BoolArray | None, rules: Positions
    ) -> tuple[Positions, Positions]:
        """Return row and rule of the matches of these compiled rules, of one row by rule. `closed` None: all are."""
        book = self._book
        masks: list[BoolArray] = []
        mask_of = np.full(len(rules), ALL_ROWS)
        if closed is not None:
            masks.append(closed)
            mask_of[book.closed_only[rules]] = 0
        if self._filters:
            for at, position in enumerate(rules.tolist()):
                chosen = book.compiled[position].symbols
                if chosen is not None:
                    rows = self._filters[chosen].rows(self.memory.symbols, symbols)
                    masks.append(rows if mask_of[at] == ALL_ROWS else rows & masks[0])
                    mask_of[at] = len(masks) - 1
        return self._clauses.matches(block, cells, rules, masks, mask_of)

    def _other_matches(
        self,
        batch: MetricsBatch,
        cells: Cells,
        symbols: Positions,
        turns: list[Positions],
        closed: BoolArray | None,
        rules: list[int],
    ) -> Iterator[tuple[Positions, Positions]]:
        """Yield row and rule of the matches of each of these rules. `closed` None: all rows are."""
        for position in rules:
            try:
                truth = self._truth(position, batch, cells, symbols, turns, closed)
                rows = None if truth is None else np.flatnonzero(truth)
            except MemoryError:
                raise
            except Exception as error:
                self._fail(position, error)
                continue
            if rows is not None:
                yield rows, np.full(len(rows), position)

    def _truth(
        self,
        position: int,
        batch: MetricsBatch,
        cells: Cells,
        symbols: Positions,
        turns: list[Positions],
        closed: BoolArray | None,
    ) -> BoolArray | None:
        """Return the rows at which one rule is true; None without any. `closed` None: all rows are."""
        compiled = self._book.compiled[position]
        eligible = closed if compiled.mode == "close" else None
        if compiled.symbols is not None:
            chosen = self._filters[compiled.symbols].rows(self.memory.symbols, symbols)
            if not chosen.any():
                return None
            eligible = chosen if eligible is None else eligible & chosen
        truth = where_all(cells, compiled.clauses, eligible)
        if not compiled.hold_key:
            return truth
        if truth is None:
            truth = np.zeros(len(batch), np.bool_)
        time = self._book.event_time_ms(position, batch)
        return self._holds[compiled.hold_key].apply(truth, eligible, time, batch.open_time_ms, symbols, turns)

    def time_memory_bytes(self) -> int:
        """Return the bytes of the memory of functions over time."""
        return self.memory.past.memory_bytes()

    def kept(self, batch: MetricsBatch) -> MetricsBatch:
        """Return the rows of the batch just evaluated with the values to keep: the columns are the book's `kept`."""
        position = {name: at for at, name in enumerate(batch.columns)}
        values = np.full((len(batch), len(self._book.kept)), np.nan)
        for at, name in enumerate(self._book.kept):
            if name in self._book.indicators:
                found = self._cells[self._book.indicators[name]]
                values[:, at] = np.nan if found is None else found
            elif name in position:
                values[:, at] = batch.values[:, position[name]]
        return batch.with_values(values, self._book.kept)

    def replay(self, batch: MetricsBatch) -> None:
        """Remember kept minutes, in order of time: after `restore_bars`, before any other batch."""
        symbols = self.memory.symbols.positions(batch)
        free = self.memory.past.free_rows(batch, symbols, len(self.memory.symbols))
        with np.errstate(all="ignore"):
            self._replay(batch.take(~free), settled=True)
            self._replay(batch.take(free), settled=False)

    def _replay(self, batch: MetricsBatch, settled: bool) -> None:
        """settled: bars do not move, and the values of indicators are the kept ones."""
        if not len(batch):
            return
        cells: Cells = list(self._book.template)
        self._gather.into(cells, batch.values, batch.columns)
        fill_moments(cells, self._book.moments, batch)
        slots = self._book.slots
        if settled:
            position = {name: at for at, name in enumerate(batch.columns)}
            for text, cell in self._book.indicators.items():
                known = text in position
                cells[cell] = batch.values[:, position[text]] if known else np.full(len(batch), np.nan)
            slots = tuple(slot for slot in slots if isinstance(slot, PreviousSlot) or not is_of_bars(slot))
        self.memory.fill(slots, batch, cells, self._slot_failed)

    def bars_snapshot(self) -> bytes:
        """Return, packed, the memory that kept minutes cannot restore: that of bars."""
        known = len(self.memory.symbols)
        self.memory.previous.grow(known)
        arrays = self.memory.past.packed_bars(self._book.slots, known)
        newest = self.memory.previous.minute_now // MINUTE_MS
        header = {"symbols": list(self.memory.symbols.position)}
        return encode("rule bars", BARS_VERSION, header, {"minute": newest, **arrays})

    def restore_bars(self, packed: bytes) -> list[Rule]:
        """Take back the memory of bars, as far as this book uses it; return the rules whose bars are not in it. Raises
        BadFrame, see `restore`."""
        header, arrays = decode(packed, "rule bars", BARS_VERSION)
        try:
            positions = self.memory.symbols.positions_of(map(str, header["symbols"]))
            missing = self.memory.past.unpack_bars(self._book.slots, arrays, positions)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFrame("frame_unreadable", f"unreadable memory of bars: {error!r}") from error
        return self._book.rules_of(missing)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols with any memory."""
        return tuple(self.memory.symbols.position)

    def forget(self, symbols: Collection[str]) -> None:
        """Forget these symbols."""
        self.returns.forget(symbols)
        gone = {
            self.memory.symbols.position[symbol]
            for symbol in symbols
            if symbol in self.memory.symbols.position
        }
        if not gone:
            return
        header, arrays = decode(self.snapshot(), "rules", SNAPSHOT_VERSION)
        kept = [at for at in range(len(self.memory.symbols)) if at not in gone]
        header["symbols"] = [header["symbols"][at] for at in kept]
        self.memory.past.keep_symbols(kept, len(self.memory.symbols))
        self.memory.symbols = SymbolRegister()
        self._filters = {chosen: SymbolFilter(chosen) for chosen in self._filters}
        self._restore(header, {name: array[..., kept] for name, array in arrays.items()})

    def snapshot(self) -> bytes:
        """Return the memory, packed."""
        known = len(self.memory.symbols)
        self.memory.previous.grow(known)
        for hold in self._holds.values():
            hold.grow(known)
        holds = [hold.times() for hold in self._holds.values()]
        header = {
            "symbols": list(self.memory.symbols.position),
            "operands": list(self.memory.previous.planes),
            "holds": list(self._holds),
            "returns": self.returns.symbols,
        }
        arrays = {
            "minutes": self.memory.previous.minutes(),
            "values": self.memory.previous.values(),
            "times": np.array(holds, np.int64).reshape(len(holds), 2, known),
            **self.returns.pack(),
        }
        return encode("rules", SNAPSHOT_VERSION, header, arrays)

    def restore(self, packed: bytes) -> None:
        """Replace the memory by a snapshot, as far as this book uses it.

        Raises BadFrame for another version, or bytes that `snapshot` did not give; discard the evaluator then.
        """
        header, arrays = decode(packed, "rules", SNAPSHOT_VERSION)
        try:
            self._restore(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFrame("frame_unreadable", f"unreadable memory of rules: {error!r}") from error

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        symbols: list[str] = header["symbols"]
        if arrays["minutes"].shape != (2, len(symbols)):
            raise ValueError(f"{len(symbols)} symbols, and minutes of shape {arrays['minutes'].shape}")
        positions = self.memory.symbols.positions_of(symbols)
        known = len(self.memory.symbols)

        def placed(array: NDArray[Any], fill: float) -> NDArray[Any]:
            whole = np.full((*array.shape[:-1], known), fill, array.dtype)
            whole[..., positions] = array
            return whole

        values = dict(zip(header["operands"], placed(arrays["values"], np.nan), strict=True))
        self.memory.previous.take_back(placed(arrays["minutes"], NEVER), values)
        for key, times in zip(header["holds"], arrays["times"], strict=True):
            if key in self._holds:
                self._holds[key].take_back(placed(times, NEVER))
        self.returns.restore(header.get("returns", ()), arrays)


def _in_row_order(found: Sequence[tuple[Positions, Positions]], book: RuleBook, cells: Cells) -> Matches:
    if not found:
        return Matches(NO_MATCHES.row, NO_MATCHES.rule, book, cells)
    row, rule = found[0] if len(found) == 1 else map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((rule, row)) if len(found) > 1 else np.argsort(row, kind="stable")
    return Matches(row[order], rule[order], book, cells)
