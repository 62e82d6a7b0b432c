"""Batches of candles: selecting, compacting and joining rows."""

from __future__ import annotations

import numpy as np
import pytest

from app.candles.batch import COLUMNS, DTYPES, MINUTE_MS, concatenate
from app.candles.validity import EXPLANATIONS, Reason, check
from tests.support.candle_batches import Candle, batch_of, rows_of
from tests.support.candle_messages import NOW_MS

ROWS = [
    Candle("AAA", 1),
    Candle("BBB", 1, 11.0),
    Candle("AAA", 2, 12.0),
    Candle("CCC", 2, 13.0, closed=False),
]


def test_every_column_has_the_type_the_table_of_types_says():
    batch = batch_of(ROWS)
    assert {name: getattr(batch, name).dtype for name in COLUMNS} == DTYPES


@pytest.mark.parametrize("rows", [[2, 0], slice(1, 3), np.array([True, False, False, True])])
def test_take_gives_the_chosen_rows_in_the_asked_order(rows):
    batch = batch_of(ROWS)
    chosen = rows if isinstance(rows, slice) else np.asarray(rows)
    expected = [ROWS[at] for at in np.arange(4)[chosen]]
    assert rows_of(batch.take(chosen)) == expected
    assert batch.take(chosen).symbols == batch.symbols


def test_compact_drops_only_symbols_without_rows():
    part = batch_of(ROWS).take(np.array([3, 2]))
    compacted = part.compact()
    assert set(compacted.symbols) == {"AAA", "CCC"}
    assert rows_of(compacted) == rows_of(part)
    assert compacted.symbol_index.dtype == np.int32
    assert compacted.compact() is compacted


def test_concatenate_merges_the_symbols_and_keeps_the_order():
    parts = [batch_of(ROWS[:1]), batch_of(ROWS).take(slice(0)), batch_of(ROWS[1:])]
    whole = concatenate(parts)
    assert rows_of(whole) == ROWS
    assert sorted(whole.symbols) == ["AAA", "BBB", "CCC"]
    assert {name: getattr(whole, name).dtype for name in COLUMNS} == DTYPES


def test_a_valid_batch_has_no_faults_and_each_fault_names_its_own_rows():
    now = NOW_MS // MINUTE_MS
    assert check(batch_of([Candle("AAA", now - 1), Candle("BBB", now, closed=False)]), NOW_MS) == []
    faults = check(batch_of([Candle("AAA", 0), Candle("AAA", now), Candle("AAA", now, -1.0)]), NOW_MS)
    assert [(mask.tolist(), reason) for mask, reason in faults] == [
        ([True, False, False], Reason.BAD_TIME),
        ([False, False, True], Reason.PRICE_NOT_POSITIVE),
    ]
    assert all(reason in EXPLANATIONS for _, reason in faults)


def test_an_empty_batch_has_no_faults():
    assert check(batch_of([]), NOW_MS) == []
