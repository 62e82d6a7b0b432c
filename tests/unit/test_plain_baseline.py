"""The benchmark's plain baseline does the same job: its windows and rules agree with the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.plain_faust.rules import matching_rules
from benchmarks.plain_faust.windows import MINUTES, SymbolWindows
from tests.oracle.alerts import read_columns, windows_by_symbol
from tests.oracle.rules import RULES
from tests.support.market_data import FULL_2024, market_data_dir

MINUTE_MS = 60_000


def test_windows_and_rules_agree_with_the_oracle_minute_by_minute_gaps_included():
    columns = read_columns(market_data_dir() / FULL_2024)
    of_sol = columns["symbol"] == "SOLUSDT"
    kept = np.random.default_rng(1).random(of_sol.sum()) > 0.0005
    candles = {name: column[of_sol][kept] for name, column in columns.items()}
    assert not kept.all()
    [(_, expected)] = windows_by_symbol(candles)
    symbol = SymbolWindows()
    matched = 0
    for open_time, close, volume in zip(
        candles["open_time_ms"].tolist(),
        candles["close"].tolist(),
        candles["quote_volume"].tolist(),
        strict=True,
    ):
        assert symbol.add(open_time, close, volume)
        row = (open_time - int(expected.minutes_ms[0])) // MINUTE_MS
        changes = {name: window.price_change() for name, window in symbol.windows.items()}
        volumes = {name: window.volume() for name, window in symbol.windows.items()}
        for name in MINUTES:
            assert nullable(changes[name]) == pytest.approx(expected.price_change[name][row], nan_ok=True)
            assert nullable(volumes[name]) == pytest.approx(expected.volume[name][row], nan_ok=True)
        holding = (
            [
                rule_type
                for rule_type, rule in RULES.items()
                if all(
                    np.broadcast_to(np.greater(greater, smaller), len(expected.minutes_ms))[row]
                    for greater, smaller in rule(expected.price_change, expected.volume)
                )
            ]
            if row % 10 == 0
            else None
        )
        if holding is not None:
            assert matching_rules(changes, volumes) == holding
            matched += len(holding)
    assert matched


def nullable(value: float | None) -> float:
    return math.nan if value is None else value


def test_a_volume_ratio_compares_with_the_window_before_and_is_null_without_it():
    symbol = SymbolWindows()
    ratios = []
    for minute in range(12):
        symbol.add(minute * MINUTE_MS, 1.0, float(minute))
        ratios.append(symbol.windows["5m"].volume_ratio())
    assert ratios[:9] == [None] * 9
    assert ratios[9:] == [35 / 10, 40 / 15, 45 / 20]


def test_a_candle_that_is_not_newer_is_refused():
    symbol = SymbolWindows()
    assert symbol.add(60_000, 1.0, 1.0)
    assert not symbol.add(60_000, 2.0, 1.0)
    assert not symbol.add(0, 2.0, 1.0)
