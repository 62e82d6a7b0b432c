"""The ten shipped rules as plain Python conditions on price changes `c` (percent) and volumes `v`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Values = Mapping[str, float | None]

_CONDITIONS: dict[str, Callable[[Values, Values], bool]] = {
    "futures_big_bull_60": lambda c, v: (
        c["1h"] > 1.6
        and c["1d"] < 15
        and c["8h"] > c["1h"]
        and c["1d"] > c["8h"]
        and v["1h"] > 500_000
        and v["8h"] > 5_000_000
        and 6 * v["1h"] > v["8h"]
        and 16 * v["1h"] > v["1d"]
    ),
    "futures_big_bear_60": lambda c, v: (
        c["1h"] < -1.6
        and c["1d"] > -15
        and c["8h"] < c["1h"]
        and c["1d"] < c["8h"]
        and v["1h"] > 500_000
        and v["8h"] > 5_000_000
        and 6 * v["1h"] > v["8h"]
        and 16 * v["1h"] > v["1d"]
    ),
    "futures_pioneer_bull": lambda c, v: (
        c["5m"] > 1 and c["15m"] > 1 and 3 * c["5m"] > c["15m"] and 2 * v["5m"] > v["15m"]
    ),
    "futures_pioneer_bear": lambda c, v: (
        c["5m"] < -1 and c["15m"] < -1 and 3 * c["5m"] < c["15m"] and 2 * v["5m"] > v["15m"]
    ),
    "futures_5_big_bull": lambda c, v: (
        c["5m"] > 0.6
        and c["1d"] < 15
        and c["15m"] > c["5m"]
        and c["1h"] > c["15m"]
        and v["5m"] > 100_000
        and v["1h"] > 1_000_000
        and v["5m"] > v["15m"] / 3
        and v["5m"] > v["1h"] / 6
        and v["5m"] > v["8h"] / 66
    ),
    "futures_5_big_bear": lambda c, v: (
        c["5m"] < -0.6
        and c["1d"] > -15
        and c["15m"] < c["5m"]
        and c["1h"] < c["15m"]
        and v["5m"] > 100_000
        and v["1h"] > 1_000_000
        and v["5m"] > v["15m"] / 3
        and v["5m"] > v["1h"] / 6
        and v["5m"] > v["8h"] / 66
    ),
    "futures_15_big_bull": lambda c, v: (
        c["15m"] > 1
        and c["1d"] < 15
        and c["1h"] > c["15m"]
        and c["8h"] > c["1h"]
        and v["15m"] > 400_000
        and v["1h"] > 1_000_000
        and v["15m"] > v["1h"] / 3
        and v["15m"] > v["8h"] / 26
    ),
    "futures_15_big_bear": lambda c, v: (
        c["15m"] < -1
        and c["1d"] > -15
        and c["1h"] < c["15m"]
        and c["8h"] < c["1h"]
        and v["15m"] > 400_000
        and v["1h"] > 1_000_000
        and v["15m"] > v["1h"] / 3
        and v["15m"] > v["8h"] / 26
    ),
    "futures_bottom_hunter": lambda c, v: (
        c["1h"] < -0.7
        and c["15m"] < -0.6
        and c["5m"] > 0.5
        and v["5m"] > v["15m"] / 2
        and v["5m"] > v["1h"] / 8
    ),
    "futures_top_hunter": lambda c, v: (
        c["1h"] > 0.7
        and c["15m"] > 0.6
        and c["5m"] < -0.5
        and v["5m"] > v["15m"] / 2
        and v["5m"] > v["1h"] / 8
    ),
}


def matching_rules(c: Values, v: Values) -> list[str]:
    """Return the rules that are true; a rule that needs a null value is not."""
    return [rule_type for rule_type, condition in _CONDITIONS.items() if _holds(condition, c, v)]


def _holds(condition: Callable[[Values, Values], bool], c: Values, v: Values) -> bool:
    try:
        return condition(c, v)
    except TypeError:
        return False
