"""A backtest over months of a market generated day by day: candles per second, and the memory after each month.

Why it is hot: reliable figures about a rule need a year of many symbols, which does not fit into memory at once.

    python -m benchmarks.long_backtest --symbols 100 --days 365
    python -m benchmarks.long_backtest --files FOLDER

The first command feeds the days to a backtest, with ten rules. The second one writes them to a folder as parquet,
55 bytes a candle, and runs `screener backtest` over it, with the shipped rules.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from app.backtest.backtest import Backtest
from app.backtest.forward import ForwardReturns
from app.backtest.prices import ClosePrices
from app.backtest.report import Report
from app.candle_files.reader import by_minutes
from app.candles.batch import MINUTE_MS, CandleBatch
from app.cli.candles.candle_sources import BATCH_ROWS
from app.cli.candles.kept_closes import KeptCloses
from app.rules.evaluation.rulebook import RuleBook
from app.rules.files import shipped_rules
from benchmarks.backtest import candles_of
from benchmarks.rules import FUTURES

START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
_DAY = 1440
_MONTH_DAYS = 30
_MB = 1_000_000
_WRITTEN = ("open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades")


def days_of_market(symbols: int, days: int) -> Iterator[CandleBatch]:
    """Yield each day of a market with common moves, quiet stretches and bursts; the same every time."""
    names = tuple(f"S{at}USDT" for at in range(symbols))
    last = np.full(symbols, 100.0)
    size = np.exp(np.random.default_rng(7).normal(10, 1.5, symbols))
    for day in range(days):
        rng = np.random.default_rng((7, day))
        burst = np.repeat(rng.choice([1.0, 1.0, 1.0, 4.0], _DAY // 60), 60)[:, None]
        common = rng.normal(0, 0.0006, (_DAY, 1)) * burst
        steps = common + rng.standard_t(3, (_DAY, symbols)) * 0.0006 * burst
        # prices are pulled towards 100, so that none leaves the range of valid prices within a year
        close = (
            last
            * np.exp(np.cumsum(steps, axis=0))
            * (100 / last) ** (np.arange(1, _DAY + 1) / 14_400)[:, None]
        )
        opened = np.vstack((last, close[:-1]))
        last = close[-1]
        quote = size * burst * np.exp(rng.normal(0, 0.8, (_DAY, symbols)))
        yield candles_of(names, START_MS + MINUTE_MS * day * _DAY, opened, close, quote)


def play(symbols: int, days: int) -> None:
    """Feed the days to a backtest in this process."""
    print(f"{symbols:,} symbols, CPU time of the backtest without that of the market\n")
    print("| days | candles | alerts | candles/s | memory MB |\n|--:|--:|--:|--:|--:|")
    run = Backtest(RuleBook.compile(shipped_rules()[:FUTURES], "close"), keep_entries=False)
    kept = KeptCloses()
    returns = ForwardReturns(ClosePrices(kept))
    process, spent_s = psutil.Process(), 0.0
    for day, market in enumerate(days_of_market(symbols, days), start=1):
        for part in by_minutes(market, BATCH_ROWS):
            began = time.process_time()
            returns.take(run.feed(part))
            spent_s += time.process_time() - began
        if day % _MONTH_DAYS == 0 or day == days:
            memory = process.memory_info().rss / _MB
            candles = run.counts.candles
            print(
                f"| {day} | {candles:,} | {returns.alerts:,} | {candles / spent_s:,.0f} | {memory:,.0f} |",
                flush=True,
            )
    began = time.process_time()
    report = Report.of(run, returns, "close")
    outcomes_s = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MB
    print(f"\nreport of {report.alerts:,} alerts: {outcomes_s:.1f} s; most memory {peak:,.0f} MB")
    kept.close()


def write_files(folder: Path, symbols: int, days: int) -> None:
    """Write a parquet file of the recorder's columns for each month of days."""
    writer = None
    for day, market in enumerate(days_of_market(symbols, days)):
        names = pa.DictionaryArray.from_arrays(pa.array(market.symbol_index), pa.array(market.symbols))
        columns = {name: getattr(market, name) for name in _WRITTEN}
        table = pa.table({"symbol": names, **columns})
        if day % _MONTH_DAYS == 0:
            if writer is not None:
                writer.close()
            writer = pq.ParquetWriter(folder / f"month-{day // _MONTH_DAYS + 1:02}.parquet", table.schema)
        assert writer is not None
        writer.write_table(table)
    if writer is not None:
        writer.close()


def command(folder: Path) -> None:
    """Run `screener backtest` over the files of a folder, and sample its memory every two seconds."""
    report = folder / "report.html"
    began, memory = time.perf_counter(), []
    arguments = [sys.executable, "-m", "app", "backtest", str(folder), "--report", str(report)]
    with psutil.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.extend(process.stdout))
        reader.start()
        while reader.is_alive():
            with contextlib.suppress(psutil.Error):
                memory.append(process.memory_info().rss / _MB)
            reader.join(2)
    seconds = time.perf_counter() - began
    print(output[0].strip())
    tenths = [memory[len(memory) * tenth // 10] for tenth in range(1, 10)]
    print(
        f"{seconds:.0f} s in all; memory MB at each tenth of it: {', '.join(f'{mb:,.0f}' for mb in tenths)}; "
        f"most {max(memory):,.0f}; page of {report.stat().st_size / 1000:,.0f} kB"
    )


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--symbols", type=int, default=100)
    given.add_argument("--days", type=int, default=365)
    given.add_argument(
        "--files", type=Path, help="write the market to this folder, if it is empty, and run the command"
    )
    arguments = given.parse_args()
    print(f"Python {platform.python_version()}, NumPy {np.__version__}")
    if arguments.files is None:
        play(arguments.symbols, arguments.days)
        return
    arguments.files.mkdir(parents=True, exist_ok=True)
    if not any(arguments.files.glob("*.parquet")):
        write_files(arguments.files, arguments.symbols, arguments.days)
    command(arguments.files)


if __name__ == "__main__":
    main()
