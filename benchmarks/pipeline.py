"""Candles per second through the whole pipeline, from NATS on: `python -m benchmarks.pipeline [FILE] [--candles N]`.

Every contender gets the same candles in the same run, on freshly started servers. Its alerts by the ten
`futures_*` rules are compared with the brute-force computation of the tests; a rate with different alerts
does not count. (The screener runs more rules than these.)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

from app.candle_files.reader import read_candles
from app.candles.batch import CandleBatch
from app.local.servers.embedded import EmbeddedStack
from app.settings import Settings
from benchmarks.measure import Alert, ContenderEnded, Result, load_candles
from benchmarks.plain_run import FAUST, QUIX, PlainLibrary, measure_plain
from benchmarks.screener_run import measure_screener
from tests.oracle.alerts import close_mode_alerts_of
from tests.oracle.rules import RULES
from tests.support.market_data import ALTCOINS_2021, market_data_dir

Contender = Callable[[Settings, CandleBatch, dict[str, psutil.Process]], Coroutine[Any, Any, Result]]
_MESSAGE_SIZES = (100, 1)
"""Candles per NATS message in the screener's runs; the plain implementations read only single candles."""


def expected_alerts(candles: CandleBatch) -> set[Alert]:
    return close_mode_alerts_of(
        {
            "symbol": np.array(candles.symbols)[candles.symbol_index],
            "open_time_ms": candles.open_time_ms,
            "close": candles.close,
            "quote_volume": candles.quote_volume,
        }
    )


def run_contender(contender: Contender, candles: CandleBatch) -> Result:
    """Measure a contender on freshly started servers, so that nothing is left of another one."""
    with (
        tempfile.TemporaryDirectory(prefix="screener-benchmark-") as directory,
        EmbeddedStack.start(Path(directory)) as stack,
    ):
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        settings = Settings.load({}, **urls, data_dir=directory)
        servers = {name: psutil.Process(process.pid) for name, process in stack.processes.items()}
        return uvloop.run(contender(settings, candles, servers))


def plain(library: PlainLibrary, workers: int) -> Contender:
    def measure(
        settings: Settings, candles: CandleBatch, servers: dict[str, psutil.Process]
    ) -> Coroutine[Any, Any, Result]:
        return measure_plain(library, settings, candles, workers=workers, servers=servers)

    return measure


def screener(candles_per_message: int) -> Contender:
    def measure(
        settings: Settings, candles: CandleBatch, servers: dict[str, psutil.Process]
    ) -> Coroutine[Any, Any, Result]:
        return measure_screener(settings, candles, candles_per_message=candles_per_message, servers=servers)

    return measure


def contenders() -> list[Contender]:
    """Return the contenders, plain Faust with one worker first; with Quix Streams if it is installed
    (`pip install .[benchmark]`)."""
    libraries = [FAUST, QUIX] if find_spec("quixstreams") else [FAUST]
    baselines = [plain(library, workers) for library in libraries for workers in (1, 2)]
    return baselines + [screener(size) for size in _MESSAGE_SIZES]


class Table:
    """The results as a Markdown table; ratios are relative to the result added first."""

    def __init__(self) -> None:
        self._lines = [
            "| contender | candles | candles/s | ratio | CPU µs a candle | ratio | of which | as computed |",
            "|---|--:|--:|--:|--:|--:|---|---|",
        ]
        self._first: Result | None = None
        self.all_as_computed = True

    def add(self, result: Result, expected: set[Alert]) -> str:
        """Add a result; return its row."""
        first = self._first = self._first or result
        parts = ", ".join(
            f"{name} {1e6 * cpu_s / result.candles:.0f}" for name, cpu_s in result.cpu_s.items()
        )
        as_computed = {alert for alert in result.alerts if alert[0] in RULES} == expected
        self.all_as_computed &= as_computed
        verdict = f"yes, {len(expected):,}" if as_computed else "NO"
        self._lines.append(
            f"| {result.name} | {result.candles:,} | {result.candles_per_s:,.0f} "
            f"| {result.candles_per_s / first.candles_per_s:.1f} | {result.cpu_us_per_candle:.0f} "
            f"| 1/{first.cpu_us_per_candle / result.cpu_us_per_candle:.1f} | {parts} | {verdict} |"
        )
        return self._lines[-1]

    def __str__(self) -> str:
        return "\n".join(self._lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="market file (parquet)")
    # 24 symbols for 1,660 minutes: enough for a whole window of a day, and for both workers
    parser.add_argument("--symbols", type=int, default=24, help="at most so many of its symbols")
    parser.add_argument("--candles", type=int, default=40_000, help="at most so many of their first candles")
    parser.add_argument("--ours", action="store_true", help="only the screener's own runs")
    parser.add_argument("--ours-full", action="store_true", help="and the screener on the whole file")
    arguments = parser.parse_args()
    file = arguments.file or market_data_dir() / ALTCOINS_2021
    runs = [(load_candles(file, arguments.symbols, arguments.candles), contenders())]
    ours = [screener(size) for size in _MESSAGE_SIZES]
    if arguments.ours:
        runs = [(runs[0][0], ours)]
    if arguments.ours_full:
        runs.append((read_candles(file), ours))
    table, failed = Table(), False
    for candles, chosen in runs:
        expected = expected_alerts(candles)
        for contender in chosen:
            try:
                result = run_contender(contender, candles)
            except ContenderEnded as ended:
                # for example a client library that needs a feature which the embedded broker lacks
                print(f"did not run: {ended}", flush=True)
                failed = True
            else:
                print(table.add(result, expected), flush=True)
    print(f"\n{table}\n")
    print(
        "The screener's runs end when candles, metrics and alerts are in PostgreSQL; the others write none."
    )
    if not table.all_as_computed:
        raise SystemExit("a contender gave other alerts than the brute-force computation")
    if failed:
        raise SystemExit("a contender did not run: see above")


if __name__ == "__main__":
    main()
