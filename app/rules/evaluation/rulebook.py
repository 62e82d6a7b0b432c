"""All enabled rules compiled together. `evaluator.py` evaluates them over frames of metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.candles.batch import BoolArray, IntArray
from app.market.metrics import MetricsBatch
from app.market.tracks.windows import UNKNOWN
from app.rules.evaluation.bounds import Bounds
from app.rules.evaluation.builder import Builder, ProgramClause
from app.rules.evaluation.clauses import ClauseProgram
from app.rules.evaluation.kept_minutes import kept_names
from app.rules.evaluation.slots import ProgramStep, Slot, cells_behind
from app.rules.files import check_unique
from app.rules.language.canonical_text import to_text
from app.rules.language.tree import CONDITION_KINDS, ConditionNode, WithReference
from app.rules.language.walks import looks_of
from app.rules.rule import Mode, Rule

_ERROR_MAX_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class RuleFault:
    """A rule that raised while it was compiled or evaluated, and its error."""

    rule: Rule
    error: str

    @classmethod
    def of(cls, rule: Rule, error: Exception) -> RuleFault:
        return cls(rule, f"{type(error).__name__}: {error}"[:_ERROR_MAX_CHARS])


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    rule: Rule
    mode: Mode
    clauses: tuple[ProgramClause, ...]
    symbols: frozenset[str] | None
    hold_key: str
    """Names the rule's hold state across books; empty if the rule has no hold."""
    looks: tuple[Look, ...]
    """The condition's inputs."""
    look_steps: tuple[ProgramStep, ...]
    """Steps that fill the cells of inputs that no clause has filled."""


@dataclass(frozen=True, slots=True)
class Look:
    """An input of a condition. text: canonical. cell: of its value. condition: whether the input is itself a
    condition, with the value 1, UNKNOWN or 0."""

    text: str
    cell: int
    condition: bool

    def told(self, value: float) -> float | None:
        """Return a value of the cell as people are told it: 1 or 0 for a condition; None is null."""
        if not math.isfinite(value) or (self.condition and value == UNKNOWN):
            return None
        return float(value)


def looks_in(condition: ConditionNode, builder: Builder) -> tuple[Look, ...]:
    """Return the inputs of a condition, with the cells that the builder gives them."""
    return tuple(
        Look(to_text(look), builder.look(look), isinstance(look, CONDITION_KINDS))
        for look in looks_of(condition)
    )


@dataclass(frozen=True, slots=True, eq=False)
class RuleBook:
    """Immutable; build it with `compile`. `rules` are the enabled ones that compile, in the order given."""

    rules: tuple[Rule, ...]
    modes: tuple[Mode, ...]
    default_mode: Mode
    compiled: tuple[CompiledRule, ...]
    slots: tuple[Slot, ...]
    moments: Mapping[int, int]
    """Cell that holds whether a row ends a bar -> minutes of the bar."""
    template: tuple[float | None, ...]
    columns: Mapping[int, str]
    rows_of: Mapping[int, str]
    """See `Builder`, as for the next field."""
    moving_with: Mapping[int, WithReference]
    bounds: Bounds
    clauses: ClauseProgram
    closed_only: BoolArray
    """(rules,) whether a rule is evaluated at closed rows only."""
    kept: tuple[str, ...]
    """Metrics and indicators of which the closed minutes are kept, to rebuild the memory of functions over time."""
    indicators: Mapping[str, int]
    """Text of an indicator -> the cell of its value."""
    always: NDArray[np.intp]
    """Positions of the rules that are evaluated even where they cannot be true: rules with a hold."""
    faults: tuple[RuleFault, ...]
    """Enabled rules that raised while they were compiled, and are left out."""

    @classmethod
    def compile(cls, rules: Iterable[Rule], default_mode: Mode) -> RuleBook:
        """Return the book of the enabled rules. Raises RuleError if two of them have one rule_type."""
        enabled = tuple(rule for rule in rules if rule.enabled)
        check_unique(enabled)
        builder = Builder()
        compiled: list[CompiledRule] = []
        faults: list[RuleFault] = []
        for rule in enabled:
            try:
                mode = "close" if rule.looks_at_market else rule.mode or default_mode
                compiled.append(_compile(rule, mode, builder))
            except MemoryError:
                raise
            except Exception as error:
                faults.append(RuleFault.of(rule, error))
        template: list[float | None] = [None] * builder.width
        for cell, value in builder.constants.items():
            template[cell] = value
        return cls(
            rules=tuple(found.rule for found in compiled),
            modes=tuple(found.mode for found in compiled),
            default_mode=default_mode,
            compiled=tuple(compiled),
            slots=tuple(builder.slots),
            moments=builder.moments,
            template=tuple(template),
            columns=builder.columns,
            rows_of=builder.rows_of,
            moving_with=builder.moving_with,
            bounds=Bounds(builder, [found.clauses for found in compiled]),
            clauses=ClauseProgram(
                builder, [found.clauses for found in compiled], [bool(found.hold_key) for found in compiled]
            ),
            closed_only=np.array([found.mode == "close" for found in compiled], np.bool_),
            always=np.array([at for at, found in enumerate(compiled) if found.hold_key], np.intp),
            faults=tuple(faults),
            kept=kept_names(found.rule.condition() for found in compiled),
            indicators=builder.indicators,
        )

    def part(self, *, looks_at_market: bool) -> RuleBook:
        """Return the book of the rules that look at the whole market, or of the others."""
        rules = [rule for rule in self.rules if rule.looks_at_market == looks_at_market]
        return self if len(rules) == len(self.rules) else RuleBook.compile(rules, self.default_mode)

    def rules_reading(self, slot: Slot) -> list[int]:
        """Return positions of the rules that read the value of `slot`."""
        cells = cells_behind(self.slots, set(slot.outs))
        return [
            position
            for position, found in enumerate(self.compiled)
            if any(
                clause.out in cells or any(step.left in cells or step.right in cells for step in clause.steps)
                for clause in found.clauses
            )
        ]

    def rules_of(self, slots: Iterable[Slot]) -> list[Rule]:
        """Return the rules that read the values of these slots."""
        positions = {at for slot in slots for at in self.rules_reading(slot)}
        return [self.rules[at] for at in sorted(positions)]

    def event_time_ms(self, rule: int, batch: MetricsBatch) -> IntArray:
        """Return each row's event time for this rule: open time in close mode, the exchange's in live mode."""
        return batch.open_time_ms if self.modes[rule] == "close" else batch.event_ts_ms


def _compile(rule: Rule, mode: Mode, builder: Builder) -> CompiledRule:
    condition = rule.condition()
    hold_key = f"{rule.rule_type}|{mode}|{rule.hold_s}|{to_text(condition)}" if rule.hold_s else ""
    symbols = None if rule.symbols is None else frozenset(rule.symbols)
    clauses = builder.clauses(condition)
    looks = looks_in(condition, builder)
    look_steps = tuple(dict.fromkeys(step for look in looks for step in builder.steps_for(look.cell)))
    return CompiledRule(rule, mode, clauses, symbols, hold_key, looks, look_steps)
