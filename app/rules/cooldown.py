"""Matches that become alerts: at most one per symbol, rule and minute, and one per cooldown of event time.

Pure arithmetic. The caller looks up when each key of `Matches.keys` fired last, publishes the alerts that `decide`
returns, and then records `Decision.last_fired`; a crash in between may repeat an alert, with the same id, but loses
no alert.

Event time is the minute's open time in close mode and the exchange's event time in live mode. An exchange
sends the close of a minute some milliseconds after its end; for the cooldown this counts as the end itself,
so that one number tells both when a rule fired and in which minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.candles.batch import MINUTE_MS
from app.market.metrics import MetricsBatch
from app.rules.evaluation.matches import Matches
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Mode, Rule

CooldownKey = tuple[str, str]
"""(rule_type, symbol)"""


class Fire(NamedTuple):
    """A future alert: `row` of the batch, the event time by the rule's mode, and the values the rule read, as
    `Matches.seen` gives them."""

    rule: Rule
    mode: Mode
    symbol: str
    row: int
    open_time_ms: int
    event_ts_ms: int
    seen: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Decision:
    """fires: in order of minute, then of evaluation.

    last_fired: to be recorded once the fires are published; event time (UTC ms) of each key's latest fire.
    """

    fires: list[Fire]
    last_fired: dict[CooldownKey, int]


def cooldown_time_ms(mode: Mode, open_time_ms: int, event_ts_ms: int) -> int:
    """Return the event time that cooldowns compare: the open in close mode, within (open, end] in live mode."""
    if mode == "close":
        return open_time_ms
    return min(max(event_ts_ms, open_time_ms + 1), open_time_ms + MINUTE_MS)


def decide(
    matches: Matches, batch: MetricsBatch, rules: RuleBook, last_fired: Mapping[CooldownKey, int]
) -> Decision:
    """Return the matches that fire. `rules` is the book evaluated; `last_fired` knows the keys that ever fired.

    A match fires if its event time is at least the rule's cooldown after the last fire, and its minute a
    later one. A row from before the last fire never fires: its alert was decided already.
    """
    recorded: dict[CooldownKey, int] = {}
    firing: list[tuple[int, int, str, int, int]] = []
    rows_of: dict[int, list[int]] = {}
    if not len(matches):
        return Decision([], recorded)
    minutes = batch.open_time_ms[matches.row]
    order = np.argsort(minutes, kind="stable")
    columns = (matches.row[order], matches.rule[order], minutes[order], batch.event_ts_ms[matches.row[order]])
    for row, position, minute, event_ts_ms in zip(*(column.tolist() for column in columns), strict=True):
        rule, mode = rules.rules[position], rules.modes[position]
        symbol = batch.symbol_of(row)
        key = (rule.rule_type, symbol)
        time_ms = cooldown_time_ms(mode, minute, event_ts_ms)
        last = recorded.get(key, last_fired.get(key))
        if last is None or _may_fire(rule, mode, time_ms, minute, last):
            recorded[key] = time_ms
            firing.append((position, row, symbol, minute, minute if mode == "close" else event_ts_ms))
            rows_of.setdefault(position, []).append(row)
    seen = {position: iter(matches.seen(position, rows)) for position, rows in rows_of.items()}
    fires = [
        Fire(
            rules.rules[position], rules.modes[position], symbol, row, minute, event_ms, next(seen[position])
        )
        for position, row, symbol, minute, event_ms in firing
    ]
    return Decision(fires, recorded)


def _may_fire(rule: Rule, mode: Mode, time_ms: int, minute: int, last_ms: int) -> bool:
    last_minute = (last_ms if mode == "close" else last_ms - 1) // MINUTE_MS * MINUTE_MS
    return time_ms - last_ms >= rule.cooldown_s * 1000 and minute > last_minute
