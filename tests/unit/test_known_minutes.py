"""Known minutes: what the collector drops, corrects and misses."""

from __future__ import annotations

from app.candles.batch import MINUTE_MS
from app.candles.known_minutes import Gap, KnownMinutes
from tests.support.candle_batches import Candle, batch_of, rows_of

T = 28_000_000


def test_a_gap_is_reported_once_and_not_again_when_it_is_filled():
    known = KnownMinutes()
    known.accept(batch_of([Candle("AAA", T)]))
    jumped = known.accept(batch_of([Candle("AAA", T + 4)]))
    assert jumped.gaps == [Gap("AAA", (T + 1) * MINUTE_MS, (T + 3) * MINUTE_MS)]
    assert jumped.gaps[0].minutes == 3
    for minute in (T + 4, T + 2, T + 1, T + 3, T + 5):
        assert known.accept(batch_of([Candle("AAA", minute)])).gaps == []
    assert known.missing_minutes("AAA") == 0


def test_a_forming_candle_makes_no_gap_and_does_not_close_its_minute():
    known = KnownMinutes()
    known.accept(batch_of([Candle("AAA", T)]))
    ahead = known.accept(batch_of([Candle("AAA", T + 9, closed=False)]))
    assert (ahead.gaps, len(ahead.batch)) == ([], 1)
    assert ahead.closed_minutes_ms.tolist() == []
    assert len(known.accept(batch_of([Candle("AAA", T + 9)])).batch) == 1


def test_a_forming_candle_behind_its_own_close_in_the_same_batch_is_stale():
    rows = [Candle("AAA", T, closed=False), Candle("AAA", T), Candle("AAA", T, 11.0, closed=False)]
    found = KnownMinutes().accept(batch_of(rows))
    assert rows_of(found.batch) == [rows[1]]
    assert found.stale_forming == 2


def test_a_correction_and_its_withdrawal_both_pass():
    known = KnownMinutes()
    for price, corrections in ((10.0, 0), (11.0, 1), (10.0, 1)):
        found = known.accept(batch_of([Candle("AAA", T, price)]))
        assert (len(found.batch), found.corrections) == (1, corrections)


def test_the_sign_of_a_zero_is_no_correction():
    known = KnownMinutes()
    batch = batch_of([Candle("AAA", T, 0.0)])
    known.accept(batch)
    assert known.accept(batch_of([Candle("AAA", T, -0.0)])).duplicates == 1


def test_a_candle_older_than_the_ring_neither_hides_nor_forgets_a_newer_one():
    known = KnownMinutes(capacity_minutes=10)
    found = known.accept(batch_of([Candle("AAA", T + 10), Candle("AAA", T)]))
    assert len(found.batch) == 2
    assert known.accept(batch_of([Candle("AAA", T + 10)])).duplicates == 1
    assert len(known.accept(batch_of([Candle("AAA", T)])).batch) == 1


def test_many_symbols_grow_the_state_without_mixing_it():
    known = KnownMinutes()
    names = [f"S{number}" for number in range(100)]
    for start in (0, 30, 90):
        known.accept(batch_of([Candle(name, T) for name in names[start:]]))
    assert known.accept(batch_of([Candle(name, T) for name in names])).duplicates == 100


def test_a_minute_that_nobody_knows_packs_to_nothing_and_loads_again():
    known = KnownMinutes()
    packed = known.pack_minute(T * MINUTE_MS)
    known.load_minute(T * MINUTE_MS, packed)
    assert known.accept(batch_of([Candle("AAA", T)])).duplicates == 0
