"""Which bars are fetched again after minutes that the exchange never had, and when."""

from __future__ import annotations

from app.candles.known_minutes import Gap
from app.feed.history.broken_bars import BarSeries, BrokenBars

MINUTE_MS = 60_000
MIDNIGHT_MS = 20_000 * 1440 * MINUTE_MS
GRACE_MS = 5_000


def at(minute: int) -> int:
    return MIDNIGHT_MS + minute * MINUTE_MS


def gap(symbol: str, first: int, last: int) -> Gap:
    return Gap(symbol, at(first), at(last))


def test_a_bar_is_due_when_it_is_over_the_short_ones_first():
    broken = BrokenBars(["15m", "1h", "1d"])
    broken.note(gap("A", 20, 20))
    assert len(broken) == 3
    assert broken.due(at(30) + GRACE_MS - 1, 0.0, 9) == []
    assert broken.due(at(30) + GRACE_MS, 0.0, 9) == [BarSeries("15m", "A")]
    assert broken.due(at(60) + GRACE_MS, 0.0, 9) == [BarSeries("15m", "A"), BarSeries("1h", "A")]
    broken.done([BarSeries("15m", "A"), BarSeries("1h", "A")], at(60) + GRACE_MS)
    assert broken.due(at(1440) + GRACE_MS, 0.0, 9) == [BarSeries("1d", "A")]


def test_a_gap_over_several_bars_is_mended_at_its_first_end_and_again_at_its_last():
    broken = BrokenBars(["15m"])
    broken.note(gap("A", 14, 31))
    assert broken.due(at(15) + GRACE_MS, 0.0, 9) == [BarSeries("15m", "A")]
    broken.done([BarSeries("15m", "A")], at(15) + GRACE_MS)
    assert broken.due(at(30) + GRACE_MS, 0.0, 9) == []
    assert broken.due(at(45) + GRACE_MS, 0.0, 9) == [BarSeries("15m", "A")]
    broken.done([BarSeries("15m", "A")], at(45) + GRACE_MS)
    assert len(broken) == 0


def test_after_an_outage_only_so_many_are_due_at_once_and_each_comes_to_its_turn():
    broken = BrokenBars(["15m", "1h"])
    for number in range(500):
        broken.note(gap(f"S{number}", 0, 40))
    seen = []
    while due := broken.due(at(120), 0.0, 4):
        assert len(due) <= 4
        broken.done(due, at(120))
        seen += due
    assert len(seen) == len(set(seen)) == 1_000
    assert [bar.timeframe for bar in seen] == ["15m"] * 500 + ["1h"] * 500


def test_what_cannot_be_had_is_tried_later_and_later_and_lost_in_the_end():
    broken = BrokenBars(["1d"])
    bar, now_s, tries = BarSeries("1d", "A"), 0.0, 0
    broken.again([bar], now_s)
    while len(broken):
        assert broken.due(at(0), now_s, 9) == []
        now_s += 600.0
        assert broken.due(at(0), now_s, 9) == [bar]
        lost = broken.again([bar], now_s)
        tries += 1
    assert (lost, tries) == ([bar], 12)


def test_symbols_that_are_not_followed_are_forgotten():
    broken = BrokenBars(["15m"])
    broken.note(gap("A", 0, 0))
    broken.note(gap("B", 0, 0))
    broken.keep({"B"})
    assert broken.due(at(60), 0.0, 9) == [BarSeries("15m", "B")]
