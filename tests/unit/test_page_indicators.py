"""The page's indicators equal TA-Lib's on the same bars: they are what a reader compares the screener's values with."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import talib

PAGE = Path(__file__).parents[2] / "app/sidecar/page"
CALL = """
const {{ {name} }} = await import(process.argv[1]);
const bars = JSON.parse(await new Response(process.stdin).text());
console.log(JSON.stringify({name}(bars)));
"""
BARS = 300


@pytest.fixture(scope="module")
def bars() -> list[dict[str, float]]:
    generator = np.random.default_rng(7)
    closes = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, BARS)))
    highs, lows = closes * (1 + generator.random(BARS) / 50), closes * (1 - generator.random(BARS) / 50)
    return [
        {
            "openMs": i * 900_000,
            "close": close,
            "high": high,
            "low": low,
            "volume": volume,
            "turnover": volume * close,
        }
        for i, (close, high, low, volume) in enumerate(
            zip(closes.tolist(), highs.tolist(), lows.tolist(), generator.random(BARS).tolist(), strict=True)
        )
    ]


@pytest.fixture(scope="module")
def computed(bars: list[dict[str, float]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What a function of the page's indicators returns for the bars."""
    tools = runpy.run_path(str(PAGE / "build.py"))
    tools["build"]()
    node = str(Path(tools["programs"]()) / "node")
    module = tmp_path_factory.mktemp("page") / "indicators.mjs"
    bundler = PAGE / "node_modules/esbuild/bin/esbuild"
    subprocess.run(
        [node, bundler, PAGE / "src/chart/indicators.ts", "--format=esm", f"--outfile={module}"], check=True
    )

    def call(name: str) -> Any:
        done = subprocess.run(
            [node, "--input-type=module", "-e", CALL.format(name=name), str(module)],
            input=orjson.dumps(bars), capture_output=True, check=True,
        )  # fmt: skip
        return orjson.loads(done.stdout)

    return call


def column(bars: list[dict[str, float]], name: str) -> Any:
    return np.array([bar[name] for bar in bars])


def same(found: list[float | None], expected: Any) -> None:
    values = np.array([np.nan if value is None else value for value in found])
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    assert np.isfinite(values).any()


def test_relative_strength(bars, computed):
    same(computed("rsi"), talib.RSI(column(bars, "close"), 14))


def test_bollinger_bands(bars, computed):
    found = computed("bollinger")
    upper, middle, lower = talib.BBANDS(column(bars, "close"), 20, 2, 2)
    same(found["upper"], upper)
    same(found["middle"], middle)
    same(found["lower"], lower)


def test_moving_averages_converging_and_diverging(bars, computed):
    found = computed("macd")
    line, signal, histogram = talib.MACD(column(bars, "close"), 12, 26, 9)
    known = np.isfinite(signal)
    # the page shows the line from its own first value on, TA-Lib only with its signal
    same([value if fits else None for value, fits in zip(found["line"], known, strict=True)], line)
    same(found["signal"], signal)
    same(found["histogram"], histogram)


def test_the_cloud_is_the_one_of_26_bars_earlier(bars, computed):
    found = computed("ichimoku")
    highs, lows = column(bars, "high"), column(bars, "low")
    middle = {n: (talib.MAX(highs, n) + talib.MIN(lows, n)) / 2 for n in (9, 26, 52)}
    same(found["conversion"], middle[9])
    same(found["base"], middle[26])
    shift = np.full(26, np.nan)
    same(found["spanA"], np.concatenate([shift, (middle[9] + middle[26])[:-26] / 2]))
    same(found["spanB"], np.concatenate([shift, middle[52][:-26]]))


def test_the_average_price_of_the_day_begins_at_midnight(bars, computed):
    turnover, volume = column(bars, "turnover"), column(bars, "volume")
    expected = [
        turnover[i - i % 96 : i + 1].sum() / volume[i - i % 96 : i + 1].sum() for i in range(len(bars))
    ]
    same(computed("vwapOfDay"), expected)
