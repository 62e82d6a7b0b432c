"""What rules over time cost: how many values the memory holds for each symbol.

A window of d minutes over a value needs d values and their blocks, some 2 d together, and one or two for itself; a
value that several rules look back at is counted once. A value has 8 bytes: 100,000 of them are 0.8 MB a symbol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from app.errors import RuleError
from app.market.tracks.recursions import STATE
from app.rules.evaluation.builder import Builder
from app.rules.evaluation.past import time_slots
from app.rules.evaluation.slots import TrackSlot, late_bars
from app.rules.language.walks import uses_time
from app.rules.rule import Rule

VALUES_MAX: Final = 100_000
"""Unless a setting says otherwise."""


def values_by_symbol(rules: Iterable[Rule]) -> int:
    """Return how many values these rules, enabled or not, hold together for one symbol."""
    builder = Builder()
    for rule in rules:
        condition = rule.condition()
        if uses_time(condition):
            builder.clauses(condition)
    return sum(
        slot.values if isinstance(slot, TrackSlot) else (late_bars(slot.minutes) + 3) * (STATE + 1)
        for slot in time_slots(builder.slots)
    )


def check_cost(rules: Sequence[Rule], most: int) -> None:
    """Raise RuleError, with the figures, if the enabled ones of these rules hold more values than `most`."""
    enabled = [rule for rule in rules if rule.enabled]
    total = values_by_symbol(enabled)
    if total <= most:
        return
    dearest = max(enabled, key=lambda rule: values_by_symbol([rule]))
    raise RuleError(
        f"the rules would remember {total:,} values of each symbol, the limit is {most:,} "
        f"(SCREENER_RULES_VALUES_MAX); shorten durations or disable rules, "
        f"{dearest.rule_type} takes {values_by_symbol([dearest]):,}"
    )
