"""The oracle's alerts on hand-made markets, its cooldown, and its independence of the pipeline."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tests.oracle
from tests.oracle.alerts import close_calls, close_mode_alerts, close_mode_alerts_of, read_columns
from tests.oracle.rules import RULES
from tests.support.market_data import FULL_2024, market_data_dir

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
DAY = 1440


def market(closes: list[float], volumes: list[float], symbol: str = "AUSDT") -> dict[str, Any]:
    return {
        "symbol": np.array([symbol] * len(closes)),
        "open_time_ms": START_MS + np.arange(len(closes)) * MINUTE_MS,
        "close": np.array(closes, dtype=float),
        "quote_volume": np.array(volumes, dtype=float),
    }


def fired(columns: dict[str, Any], rule_type: str) -> list[int]:
    """Minutes since the start at which the rule fired."""
    times_ms = [open_time_ms for rule, _, open_time_ms in close_mode_alerts_of(columns) if rule == rule_type]
    return sorted((time_ms - START_MS) // MINUTE_MS for time_ms in times_ms)


def holds(rule_type: str, change: dict[str, float], volume: dict[str, float]) -> bool:
    comparisons = RULES[rule_type](
        {name: np.array([value]) for name, value in change.items()},
        {name: np.array([value]) for name, value in volume.items()},
    )
    return all(bool(np.all(np.greater(greater, smaller))) for greater, smaller in comparisons)


# For each bull rule a case that just holds, and changes of one value that must each break it.
BULL_CASES: dict[str, tuple[dict[str, float], dict[str, float], list[tuple[str, str, float]]]] = {
    "futures_big_bull_60": (
        {"5m": 0, "15m": 0, "1h": 1.7, "8h": 2, "1d": 14.9},
        {"5m": 0, "15m": 0, "1h": 1_000_000, "8h": 5_900_000, "1d": 15_900_000},
        [
            ("c", "1h", 1.6), ("c", "1d", 15), ("c", "8h", 1.7), ("c", "1d", 2),
            ("v", "1h", 500_000), ("v", "8h", 5_000_000), ("v", "8h", 6_000_000), ("v", "1d", 16_000_000),
        ],
    ),
    "futures_pioneer_bull": (
        {"5m": 1.1, "15m": 3.2, "1h": 0, "8h": 0, "1d": 0},
        {"5m": 51, "15m": 101, "1h": 0, "8h": 0, "1d": 0},
        [("c", "5m", 1), ("c", "15m", 1), ("c", "15m", 3.4), ("v", "15m", 102)],
    ),
    "futures_5_big_bull": (
        {"5m": 0.7, "15m": 0.8, "1h": 0.9, "8h": 0, "1d": 14.9},
        {"5m": 200_000, "15m": 500_000, "1h": 1_100_000, "8h": 13_100_000, "1d": 0},
        [
            ("c", "5m", 0.6), ("c", "1d", 15), ("c", "15m", 0.7), ("c", "1h", 0.8), ("v", "5m", 100_000),
            ("v", "1h", 1_000_000), ("v", "15m", 600_000), ("v", "1h", 1_200_000), ("v", "8h", 13_200_000),
        ],
    ),
    "futures_15_big_bull": (
        {"5m": 0, "15m": 1.1, "1h": 1.2, "8h": 1.3, "1d": 14.9},
        {"5m": 0, "15m": 500_000, "1h": 1_400_000, "8h": 12_900_000, "1d": 0},
        [
            ("c", "15m", 1), ("c", "1d", 15), ("c", "1h", 1.1), ("c", "8h", 1.2), ("v", "15m", 400_000),
            ("v", "1h", 1_000_000), ("v", "1h", 1_500_000), ("v", "8h", 13_000_000),
        ],
    ),
    "futures_top_hunter": (
        {"5m": -0.6, "15m": 0.7, "1h": 0.8, "8h": 0, "1d": 0},
        {"5m": 51, "15m": 101, "1h": 407, "8h": 0, "1d": 0},
        [("c", "1h", 0.7), ("c", "15m", 0.6), ("c", "5m", -0.5), ("v", "15m", 102), ("v", "1h", 408)],
    ),
}  # fmt: skip
MIRRORED = {
    "futures_big_bull_60": "futures_big_bear_60",
    "futures_pioneer_bull": "futures_pioneer_bear",
    "futures_5_big_bull": "futures_5_big_bear",
    "futures_15_big_bull": "futures_15_big_bear",
    "futures_top_hunter": "futures_bottom_hunter",
}


def negated(change: dict[str, float]) -> dict[str, float]:
    return {name: -value for name, value in change.items()}


@pytest.mark.parametrize("rule_type", BULL_CASES)
def test_a_rule_and_its_mirror_hold_just_inside_their_thresholds_and_fail_on_each_of_them(rule_type: str):
    change, volume, breaks = BULL_CASES[rule_type]
    mirror = MIRRORED[rule_type]
    assert holds(rule_type, change, volume)
    assert holds(mirror, negated(change), volume)
    for kind, timeframe, value in breaks:
        broken_change = change | {timeframe: value} if kind == "c" else change
        broken_volume = volume | {timeframe: value} if kind == "v" else volume
        assert not holds(rule_type, broken_change, broken_volume), (kind, timeframe, value)
        assert not holds(mirror, negated(broken_change), broken_volume), (kind, timeframe, value)


def test_every_rule_has_a_case():
    assert set(BULL_CASES) | set(MIRRORED.values()) == set(RULES)


def test_a_condition_that_stays_true_fires_again_only_after_five_minutes_of_event_time():
    # From minute 16 to 28 each candle is 1.1 % above the one before, with four times its volume: five minutes
    # make 1.1 to 5.6 %, fifteen at most 15.3 %, and the last five minutes hold nearly all of the volume.
    closes = [100.0] * 16 + [100 * 1.011**k for k in range(1, 14)]
    volumes = [1.0] * 16 + [100.0 * 4**k for k in range(13)]
    assert fired(market(closes, volumes), "futures_pioneer_bull") == [16, 21, 26]


def test_another_symbol_has_a_cooldown_of_its_own():
    closes = [100.0] * 16 + [103.0] * 4
    volumes = [1.0] * 16 + [50.0] * 4
    one, other = market(closes, volumes, "AUSDT"), market(closes, volumes, "BUSDT")
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    assert close_mode_alerts_of(both) == {
        ("futures_pioneer_bull", "AUSDT", START_MS + 16 * MINUTE_MS),
        ("futures_pioneer_bull", "BUSDT", START_MS + 16 * MINUTE_MS),
    }


def test_nothing_fires_where_a_minute_of_its_windows_is_missing():
    columns = market([100.0] * 16 + [103.0] * 3, [1.0] * 16 + [50.0] * 3)
    assert fired(columns, "futures_pioneer_bull") == [16]
    without_minute_10 = {name: np.delete(column, 10) for name, column in columns.items()}
    assert fired(without_minute_10, "futures_pioneer_bull") == []
    without_minute_1 = {name: np.delete(column, 1) for name, column in columns.items()}
    assert fired(without_minute_1, "futures_pioneer_bull") == [17]


def test_forming_candles_are_left_out_and_a_later_closed_one_corrects():
    columns = market([100.0] * 16 + [103.0], [1.0] * 16 + [50.0])
    forming = columns | {"closed": np.array([True] * 16 + [False])}
    assert fired(forming, "futures_pioneer_bull") == []
    corrected = {name: np.append(column, column[-1]) for name, column in columns.items()}
    corrected["close"][-1] = 100
    assert fired(corrected, "futures_pioneer_bull") == []


def test_a_slow_day_long_rise_with_a_strong_last_hour_is_a_big_bull():
    # Within the last eight hours 1 %, before them 1 % more, and then 3 % within the hour.
    closes = [100.0] * 160 + [101.0] * 1140 + [102.0] * 200
    closes += [102 * 1.0005**k for k in range(1, 61)]
    volumes = [10_000.0] * 1500 + [30_000.0] * 60
    # c1h > 1.6 first at the 32nd of the rising minutes (1.0005**32 = 1.01612), and every 5 minutes after.
    assert fired(market(closes, volumes), "futures_big_bull_60") == [1531, 1536, 1541, 1546, 1551, 1556]
    # Without the first 101 minutes the price change of the day is null up to minute 1440 of the rest.
    assert fired(market(closes[101:], volumes[101:]), "futures_big_bull_60") == [1440, 1445, 1450, 1455]


def test_a_file_gives_the_alerts_of_its_columns(tmp_path: Path):
    columns = market([100.0] * 16 + [103.0], [1.0] * 16 + [50.0])
    path = tmp_path / "candles.parquet"
    pq.write_table(pa.table(columns), path)
    assert close_mode_alerts(path) == {("futures_pioneer_bull", "AUSDT", START_MS + 16 * MINUTE_MS)}


def test_a_value_on_its_threshold_is_a_close_call_if_the_rule_hangs_on_it():
    on_it = market([100.0] * 16 + [103.0], [1.0] * 16 + [6.0])
    assert close_mode_alerts_of(on_it) == set()
    assert close_calls(on_it) == [("futures_pioneer_bull", "AUSDT", START_MS + 16 * MINUTE_MS, 20.0, 20.0)]
    off_it = market([100.0] * 16 + [103.0], [1.0] * 16 + [6.1])
    assert close_calls(off_it) == []


def test_no_decision_on_real_candles_depends_on_rounding():
    # Two equal values compare alike however they are computed; nearly equal ones might not.
    calls = close_calls(read_columns(market_data_dir() / FULL_2024))
    assert calls
    assert [call for call in calls if call[3] != call[4]] == []


def test_the_oracle_imports_nothing_of_the_pipeline():
    folder = Path(tests.oracle.__file__).parent
    allowed = sys.stdlib_module_names | {"numpy", "pyarrow", "tests"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in allowed, (path, name)
                assert not name.startswith("tests") or name.startswith("tests.oracle"), (path, name)
    program = (
        "import sys, tests.oracle.alerts;"
        "print([name for name in sys.modules if name.split('.')[0] in ('app', 'agents', 'tables')])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
