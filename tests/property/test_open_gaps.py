"""Open gaps against a plain set of what is missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.candles.known_minutes import KnownMinutes
from app.candles.open_gaps import OpenGaps
from tests.support.candle_batches import Candle, batch_of

ARRIVALS = st.lists(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 40)), min_size=1, max_size=5), max_size=25
)


@given(ARRIVALS)
def test_what_is_missing_is_what_lies_between_known_minutes_and_did_not_come(frames):
    known, gaps = KnownMinutes(), OpenGaps()
    found = filled = 0
    came: dict[str, set[int]] = {}
    first_known: dict[str, int] = {}
    for frame in frames:
        accepted = known.accept(batch_of([Candle(symbol, minute) for symbol, minute in frame]))
        filled += gaps.fill(accepted.batch)
        gaps.note(accepted.gaps)
        found += sum(gap.minutes for gap in accepted.gaps)
        for symbol, _ in frame:
            first_known.setdefault(symbol, min(minute for name, minute in frame if name == symbol))
        for symbol, minute in frame:
            came.setdefault(symbol, set()).add(minute)
    missing = sum(
        len(set(range(first_known[symbol], max(minutes))) - minutes) for symbol, minutes in came.items()
    )
    assert len(gaps) == missing == found - filled


def test_what_is_beyond_the_room_never_counts_as_filled():
    known, gaps = KnownMinutes(), OpenGaps(tracked_minutes=5)
    for minute in (1, 10):
        gaps.note(known.accept(batch_of([Candle("A", minute)])).gaps)
    assert len(gaps) == 0
    assert gaps.fill(known.accept(batch_of([Candle("A", 5)])).batch) == 0
    gaps.note(known.accept(batch_of([Candle("A", 13)])).gaps)
    assert len(gaps) == 2
    assert gaps.fill(known.accept(batch_of([Candle("A", 11), Candle("A", 12)])).batch) == 2
