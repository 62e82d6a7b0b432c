"""All enabled rules compiled together, and their evaluation over frames of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, IntArray
from app.errors import BadFrame
from app.market.metrics import MetricsBatch
from app.market.packing import decode, encode
from app.rules.bounds import Bounds
from app.rules.files import check_unique
from app.rules.memory import HeldSince, Positions, PreviousValues, SymbolFilter, SymbolRegister, rounds
from app.rules.program import Builder, Cells, Clause, Gather, Slot, run, where_all
from app.rules.rule import Mode, Rule
from app.rules.tree import to_text

SNAPSHOT_VERSION = 2


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The true conditions of one batch, shape (matches,), by row, then by the rules' order in the book.

    row: row of the batch. rule: position in `rules`, the rules of the book that was evaluated.
    """

    row: NDArray[np.intp]
    rule: NDArray[np.intp]
    rules: tuple[Rule, ...]

    def __len__(self) -> int:
        return len(self.row)

    def keys(self, batch: MetricsBatch) -> list[tuple[str, str]]:
        """The distinct (rule_type, symbol) among the matches, in order of first match."""
        if not len(self):
            return []
        pairs = zip(self.rule.tolist(), batch.symbol_index[self.row].tolist(), strict=True)
        return [(self.rules[rule].rule_type, batch.symbols[symbol]) for rule, symbol in dict.fromkeys(pairs)]


NO_MATCHES: Final = Matches(np.zeros(0, np.intp), np.zeros(0, np.intp), ())


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    rule: Rule
    mode: Mode
    clauses: tuple[Clause, ...]
    symbols: frozenset[str] | None
    hold_key: str
    """What identifies the rule's hold state across books; empty if the rule has no hold."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleBook:
    """Immutable; build it with `compile`. `rules` are the enabled ones, in the order given."""

    rules: tuple[Rule, ...]
    modes: tuple[Mode, ...]
    compiled: tuple[CompiledRule, ...]
    slots: tuple[Slot, ...]
    template: tuple[float | None, ...]
    columns: Mapping[int, str]
    bounds: Bounds
    always: NDArray[np.intp]
    """Positions of the rules that are evaluated even where they cannot be true: those that hold."""

    @classmethod
    def compile(cls, rules: Iterable[Rule], default_mode: Mode) -> RuleBook:
        """Disabled rules are left out. Raises RuleError if two rules have one rule_type."""
        enabled = tuple(rule for rule in rules if rule.enabled)
        check_unique(enabled)
        builder = Builder()
        compiled = tuple(_compile(rule, rule.mode or default_mode, builder) for rule in enabled)
        template: list[float | None] = [None] * builder.width
        for cell, value in builder.constants.items():
            template[cell] = value
        return cls(
            rules=enabled,
            modes=tuple(found.mode for found in compiled),
            compiled=compiled,
            slots=tuple(builder.slots),
            template=tuple(template),
            columns=builder.columns,
            bounds=Bounds(builder, [found.clauses for found in compiled]),
            always=np.array([at for at, found in enumerate(compiled) if found.hold_key], np.intp),
        )

    def event_time_ms(self, rule: int, batch: MetricsBatch) -> IntArray:
        """Each row's event time for this rule: open time in close mode, the exchange's in live mode."""
        return batch.open_time_ms if self.modes[rule] == "close" else batch.event_ts_ms


def _compile(rule: Rule, mode: Mode, builder: Builder) -> CompiledRule:
    condition = rule.condition()
    hold_key = f"{rule.rule_type}|{mode}|{rule.hold_s}|{to_text(condition)}" if rule.hold_s else ""
    symbols = None if rule.symbols is None else frozenset(rule.symbols)
    return CompiledRule(rule, mode, builder.clauses(condition), symbols, hold_key)


class Evaluator:
    """Evaluates a book over batches in order, remembering what prev(), crossings and holds need.

    Feed it every batch of its shard once, in order; a batch fed twice gives the same matches again for its
    newest minute. The memory is per symbol and can be saved and restored.
    """

    def __init__(self, book: RuleBook) -> None:
        self._symbols = SymbolRegister()
        self._previous = PreviousValues()
        self._holds: dict[str, HeldSince] = {}
        self.swap(book)

    @property
    def book(self) -> RuleBook:
        return self._book

    def swap(self, book: RuleBook) -> None:
        """From now on evaluate `book`. State of what both books have in common is kept."""
        self._book = book
        self._gather = Gather(dict(book.columns))
        self._previous.keep([slot.text for slot in book.slots])
        keys = {found.hold_key: found.rule.hold_s * 1000 for found in book.compiled if found.hold_key}
        self._holds = {key: self._holds.get(key) or HeldSince(hold_ms) for key, hold_ms in keys.items()}
        self._remembers = bool(book.slots or self._holds)
        chosen = {found.symbols for found in book.compiled if found.symbols is not None}
        self._filters = {symbols: SymbolFilter(symbols) for symbols in chosen}

    def evaluate(self, batch: MetricsBatch) -> Matches:
        """Every (row, rule) whose condition is true: live rules at every row, close rules at closed rows."""
        if not len(batch) or not self._book.compiled:
            return NO_MATCHES
        with np.errstate(all="ignore"):
            cells: Cells = list(self._book.template)
            block = self._gather.into(cells, batch.values, batch.columns)
            needs_symbols = self._remembers or self._filters
            symbols = self._symbols.positions(batch) if needs_symbols else NO_MATCHES.row
            turns = self._remember(batch, cells, symbols) if self._remembers else []
            possible = self._book.bounds.possible(block)
            possible[self._book.always] = True
            return self._matches(batch, cells, symbols, turns, np.flatnonzero(possible).tolist())

    def _remember(self, batch: MetricsBatch, cells: Cells, symbols: Positions) -> list[Positions]:
        turns = rounds(symbols)
        known = len(self._symbols)
        for hold in self._holds.values():
            hold.grow(known)
        if self._book.slots:
            self._previous.grow(known)
            links = self._previous.follow(batch, symbols, turns)
            for slot in self._book.slots:
                run(cells, slot.steps)
                cells[slot.out] = self._previous.exchange(slot.text, links, cells[slot.operand])
        return turns

    def _matches(
        self,
        batch: MetricsBatch,
        cells: Cells,
        symbols: Positions,
        turns: list[Positions],
        candidates: list[int],
    ) -> Matches:
        closed = None if batch.closed.all() else batch.closed
        found_rows: list[NDArray[np.intp]] = []
        found_rules: list[int] = []
        for position in candidates:
            compiled = self._book.compiled[position]
            eligible = closed if compiled.mode == "close" else None
            if compiled.symbols is not None:
                chosen = self._filters[compiled.symbols].rows(self._symbols, symbols)
                if not chosen.any():
                    continue
                eligible = chosen if eligible is None else eligible & chosen
            truth = where_all(cells, compiled.clauses, eligible)
            if compiled.hold_key:
                truth = self._held(position, compiled, batch, truth, eligible, symbols, turns)
            if truth is not None:
                found_rows.append(np.flatnonzero(truth))
                found_rules.append(position)
        return _in_row_order(found_rows, found_rules, self._book.rules)

    def _held(
        self,
        position: int,
        compiled: CompiledRule,
        batch: MetricsBatch,
        truth: BoolArray | None,
        eligible: BoolArray | None,
        symbols: Positions,
        turns: list[Positions],
    ) -> BoolArray:
        if truth is None:
            truth = np.zeros(len(batch), np.bool_)
        time = self._book.event_time_ms(position, batch)
        return self._holds[compiled.hold_key].apply(truth, eligible, time, batch.open_time_ms, symbols, turns)

    def snapshot(self) -> bytes:
        """The memory, packed."""
        known = len(self._symbols)
        self._previous.grow(known)
        for hold in self._holds.values():
            hold.grow(known)
        holds = [hold.times() for hold in self._holds.values()]
        header = {
            "symbols": list(self._symbols.position),
            "operands": [slot.text for slot in self._book.slots],
            "holds": list(self._holds),
        }
        arrays = {
            "minutes": self._previous.minutes(),
            "values": self._previous.values(),
            "times": np.array(holds, np.int64).reshape(len(holds), 2, known),
        }
        return encode("rules", SNAPSHOT_VERSION, header, arrays)

    def restore(self, packed: bytes) -> None:
        """Replace the memory by a snapshot, as far as this book uses it.

        Raises BadFrame for another version, or what `snapshot` did not give; discard the evaluator then.
        """
        header, arrays = decode(packed, "rules", SNAPSHOT_VERSION)
        try:
            self._restore(header, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFrame("frame_unreadable", f"memory of rules that cannot be read: {error!r}") from error

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        symbols: list[str] = header["symbols"]
        if arrays["minutes"].shape != (2, len(symbols)):
            raise ValueError(f"{len(symbols)} symbols, and minutes of shape {arrays['minutes'].shape}")
        self._symbols = SymbolRegister()
        self._symbols.position.update({symbol: at for at, symbol in enumerate(symbols)})
        self._filters = {chosen: SymbolFilter(chosen) for chosen in self._filters}
        values = dict(zip(header["operands"], arrays["values"], strict=True))
        self._previous.take_back(arrays["minutes"], values)
        for key, times in zip(header["holds"], arrays["times"], strict=True):
            if key in self._holds:
                self._holds[key].take_back(times)


def _in_row_order(rows: list[NDArray[np.intp]], positions: list[int], rules: tuple[Rule, ...]) -> Matches:
    row = np.concatenate(rows) if rows else NO_MATCHES.row
    if not len(row):
        return NO_MATCHES
    rule = np.repeat(np.array(positions, np.intp), [len(found) for found in rows])
    order = np.argsort(row, kind="stable")
    return Matches(row[order], rule[order], rules)
