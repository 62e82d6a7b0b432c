"""The ten `futures_*` rules, with the thresholds of the specification's table.

Each rule is a list of strict comparisons, written as pairs (greater, smaller); it is true where every pair has
greater > smaller. `c` is price_change in percent, `v` the window's quote volume, both by timeframe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Column: TypeAlias = NDArray[np.float64]
Side: TypeAlias = Column | float
Comparison: TypeAlias = tuple[Side, Side]
Rule: TypeAlias = Callable[[dict[str, Column], dict[str, Column]], list[Comparison]]


def big_bull_60(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(c["1h"], 1.6), (15, c["1d"]), (c["8h"], c["1h"]), (c["1d"], c["8h"]), *_volume_60(v)]


def big_bear_60(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(-1.6, c["1h"]), (c["1d"], -15), (c["1h"], c["8h"]), (c["8h"], c["1d"]), *_volume_60(v)]


def _volume_60(v: dict[str, Column]) -> list[Comparison]:
    return [(v["1h"], 500_000), (v["8h"], 5_000_000), (6 * v["1h"], v["8h"]), (16 * v["1h"], v["1d"])]


def pioneer_bull(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(c["5m"], 1), (c["15m"], 1), (3 * c["5m"], c["15m"]), (2 * v["5m"], v["15m"])]


def pioneer_bear(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(-1, c["5m"]), (-1, c["15m"]), (c["15m"], 3 * c["5m"]), (2 * v["5m"], v["15m"])]


def big_bull_5(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(c["5m"], 0.6), (15, c["1d"]), (c["15m"], c["5m"]), (c["1h"], c["15m"]), *_volume_5(v)]


def big_bear_5(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(-0.6, c["5m"]), (c["1d"], -15), (c["5m"], c["15m"]), (c["15m"], c["1h"]), *_volume_5(v)]


def _volume_5(v: dict[str, Column]) -> list[Comparison]:
    return [
        (v["5m"], 100_000),
        (v["1h"], 1_000_000),
        (v["5m"], v["15m"] / 3),
        (v["5m"], v["1h"] / 6),
        (v["5m"], v["8h"] / 66),
    ]


def big_bull_15(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(c["15m"], 1), (15, c["1d"]), (c["1h"], c["15m"]), (c["8h"], c["1h"]), *_volume_15(v)]


def big_bear_15(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(-1, c["15m"]), (c["1d"], -15), (c["15m"], c["1h"]), (c["1h"], c["8h"]), *_volume_15(v)]


def _volume_15(v: dict[str, Column]) -> list[Comparison]:
    return [
        (v["15m"], 400_000),
        (v["1h"], 1_000_000),
        (v["15m"], v["1h"] / 3),
        (v["15m"], v["8h"] / 26),
    ]


def bottom_hunter(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(-0.7, c["1h"]), (-0.6, c["15m"]), (c["5m"], 0.5), *_volume_hunter(v)]


def top_hunter(c: dict[str, Column], v: dict[str, Column]) -> list[Comparison]:
    return [(c["1h"], 0.7), (c["15m"], 0.6), (-0.5, c["5m"]), *_volume_hunter(v)]


def _volume_hunter(v: dict[str, Column]) -> list[Comparison]:
    return [(v["5m"], v["15m"] / 2), (v["5m"], v["1h"] / 8)]


RULES: dict[str, Rule] = {
    "futures_big_bull_60": big_bull_60,
    "futures_big_bear_60": big_bear_60,
    "futures_pioneer_bull": pioneer_bull,
    "futures_pioneer_bear": pioneer_bear,
    "futures_5_big_bull": big_bull_5,
    "futures_5_big_bear": big_bear_5,
    "futures_15_big_bull": big_bull_15,
    "futures_15_big_bear": big_bear_15,
    "futures_bottom_hunter": bottom_hunter,
    "futures_top_hunter": top_hunter,
}
