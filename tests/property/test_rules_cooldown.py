"""Cooldown and hold against brute force over the whole history."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.cooldown import decide
from app.rules.evaluation.evaluator import Evaluator
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.support.metric_rows import MINUTE_MS, Row, metrics_batch


@st.composite
def updates(draw) -> list[Row]:
    """Updates of two symbols in order of time: forming ones at any second of the minute, then its close."""
    rows: list[Row] = []
    for minute in range(draw(st.integers(1, 14))):
        for symbol in ("AUSDT", "BUSDT"):
            open_ms = Row(symbol, minute).open_time_ms
            for second in sorted(draw(st.sets(st.integers(1, 59), max_size=3))):
                values = {"price_change_5m": draw(st.sampled_from([0.0, 2.0]))}
                rows.append(Row(symbol, minute, values, closed=False, event_ts_ms=open_ms + second * 1000))
            if draw(st.booleans()):
                late_ms = draw(st.sampled_from([0, 0, 25]))
                values = {"price_change_5m": draw(st.sampled_from([0.0, 2.0, 2.0]))}
                rows.append(Row(symbol, minute, values, event_ts_ms=open_ms + MINUTE_MS + late_ms))
    return rows


def _batches(rows: list[Row], sizes: list[int]) -> list[list[Row]]:
    batches, at = [], 0
    for size in [*sizes, len(rows)]:
        batches.append(rows[at : at + size])
        at += size
    return [batch for batch in batches if batch]


@settings(max_examples=300, deadline=None)
@given(
    updates(),
    st.lists(st.integers(1, 3) | st.integers(1, 12), max_size=12),
    st.sampled_from([0, 30, 60, 90, 300]),
    st.sampled_from(["live", "close"]),
)
def test_alerts_are_those_of_a_walk_over_all_rows_however_the_rows_are_batched(rows, sizes, cooldown_s, mode):
    expected: list[tuple[str, int]] = []
    last: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.values["price_change_5m"] <= 1 or (mode == "close" and not row.closed):
            continue
        event_ms = row.open_time_ms if mode == "close" else min(row.event_ms, row.open_time_ms + MINUTE_MS)
        previous = last.get(row.symbol)
        if previous is None or (event_ms - previous[0] >= cooldown_s * 1000 and row.minute > previous[1]):
            last[row.symbol] = (event_ms, row.minute)
            expected.append((row.symbol, row.minute))

    book = RuleBook.compile([Rule("up", "price_change_5m > 1", "high", cooldown_s=cooldown_s)], mode)
    evaluator = Evaluator(book)
    recorded: dict[tuple[str, str], int] = {}
    fired: list[tuple[str, int]] = []
    for part in _batches(rows, sizes):
        batch = metrics_batch(part)
        matches = evaluator.evaluate(batch)
        known = {key: recorded[key] for key in matches.keys(batch) if key in recorded}
        decided = decide(matches, batch, book, known)
        recorded |= decided.last_fired
        fired += [(fire.symbol, part[fire.row].minute) for fire in decided.fires]
        assert decide(matches, batch, book, recorded).fires == []
    assert sorted(fired) == sorted(expected)


@settings(max_examples=300, deadline=None)
@given(
    updates(),
    st.lists(st.integers(1, 3) | st.integers(1, 12), max_size=12),
    st.sampled_from([30, 60, 120, 240]),
    st.sampled_from(["live", "close"]),
)
def test_a_rule_that_must_hold_is_true_only_after_so_much_unbroken_event_time(rows, sizes, hold_s, mode):
    expected: list[int] = []
    since: dict[str, int | None] = {}
    minute: dict[str, int] = {}
    for at, row in enumerate(rows):
        if mode == "close" and not row.closed:
            continue
        event_ms = row.open_time_ms if mode == "close" else row.event_ms
        if row.minute - minute.get(row.symbol, row.minute) > 1:
            since[row.symbol] = None
        minute[row.symbol] = row.minute
        if row.values["price_change_5m"] <= 1:
            since[row.symbol] = None
            continue
        if since.get(row.symbol) is None:
            since[row.symbol] = event_ms
        if event_ms - since[row.symbol] >= hold_s * 1000:
            expected.append(at)

    book = RuleBook.compile([Rule("up", "price_change_5m > 1", "high", hold_s=hold_s)], mode)
    evaluator = Evaluator(book)
    found: list[int] = []
    for part in _batches(rows, sizes):
        matches = evaluator.evaluate(metrics_batch(part))
        found += [_position(rows, part[row]) for row in matches.row.tolist()]
    assert found == expected


def _position(rows: list[Row], wanted: Row) -> int:
    return next(at for at, row in enumerate(rows) if row is wanted)
