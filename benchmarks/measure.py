"""Code that the pipeline benchmarks share: candles, child processes and their CPU time, and results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.candles.batch import MINUTE_MS, CandleBatch

Alert = tuple[str, str, int]
"""rule_type, symbol, open time of the candle in UTC ms."""
_IDLE_S = 0.01
REPOSITORY = Path(__file__).resolve().parents[1]


class ContenderEnded(Exception):
    """A process of a contender ended by itself."""


@dataclass(frozen=True)
class Result:
    """`cpu_s`: CPU time by process, from the first candle published to the last alert received."""

    name: str
    candles: int
    seconds: float
    alerts: set[Alert]
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def candles_per_s(self) -> float:
        return self.candles / self.seconds

    @property
    def cpu_us_per_candle(self) -> float:
        return 1e6 * sum(self.cpu_s.values()) / self.candles


def load_candles(path: Path, symbols_at_most: int, rows: int) -> CandleBatch:
    """Return the first `rows` candles of a market file's first symbols, ordered by time, then symbol; all closed."""
    table = pq.read_table(path)
    names = np.unique(table.column("symbol").to_numpy().astype(str))[:symbols_at_most]
    table = table.filter(pc.is_in(table.column("symbol"), pa.array(names, pa.large_string()))).slice(0, rows)
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    symbols, index = np.unique(columns.pop("symbol").astype(str), return_inverse=True)
    nothing = np.full(len(index), np.nan)
    end_ms = columns["open_time_ms"] + MINUTE_MS
    return CandleBatch(
        symbols=tuple(symbols.tolist()),
        symbol_index=index.astype(np.int32),
        taker_buy_volume=nothing,
        taker_buy_quote_volume=nothing,
        quote_estimated=np.zeros(len(index), dtype=np.bool_),
        closed=np.ones(len(index), dtype=np.bool_),
        event_ts_ms=end_ms,
        ingest_ts_ms=end_ms,
        **columns,
    )


class CpuMeter:
    """Measures the CPU time of processes and their children since `start`."""

    def __init__(self) -> None:
        self._watched: dict[str, psutil.Process] = {}
        self._before: dict[str, float] = {}

    def start(self, watched: Mapping[str, psutil.Process]) -> None:
        self._watched = dict(watched)
        self._before = self._now()

    def seconds(self) -> dict[str, float]:
        """Return CPU seconds by name, the highest first, without processes that used next to nothing."""
        used = {name: now - self._before[name] for name, now in self._now().items()}
        ordered = sorted(used.items(), key=lambda item: -item[1])
        return {name: seconds for name, seconds in ordered if seconds > _IDLE_S}

    def _now(self) -> dict[str, float]:
        return {name: _cpu_s(process) for name, process in self._watched.items()}


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process and its children, ended ones included."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Processes:
    """The child processes of one measurement by name, and other processes whose CPU time counts too."""

    def __init__(self, servers: Mapping[str, psutil.Process], directory: Path) -> None:
        self._directory = directory
        self._watched = dict(servers)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._cpu = CpuMeter()

    def start(self, name: str, arguments: list[str], environ: Mapping[str, str]) -> None:
        """Run this Python with `arguments` in the repository; its output goes to `NAME.log`."""
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments], cwd=REPOSITORY, env=dict(environ), stdout=log, stderr=log
            )
        self._children[name] = child
        self._watched[name] = psutil.Process(child.pid)

    def start_clock(self) -> None:
        self._cpu.start(self._watched)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process since `start_clock`."""
        return self._cpu.seconds()

    def memory_bytes(self, name: str) -> int:
        """Return the memory that a process shares with no other (USS)."""
        found: int = self._watched[name].memory_full_info().uss
        return found

    def require_alive(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                said = self._log(name).read_text()[-4000:]
                raise ContenderEnded(f"{name} ended with status {child.returncode}; it said:\n{said}")

    def stop(self) -> None:
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


@contextmanager
def processes(servers: Mapping[str, psutil.Process], directory: Path) -> Iterator[Processes]:
    running = Processes(servers, directory)
    try:
        yield running
    finally:
        running.stop()
