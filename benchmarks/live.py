"""Latency in a live market, from the exchange's event to the published alert: `python -m benchmarks.live`.

500 symbols update their candles four times a second each, and close them all at once at the end of the minute. Each
symbol jumps once a minute, and a rule in live mode fires; another rule fires at every close. Each gives 500 alerts a
minute. The event time of an update is the clock when its message for NATS is written, as an exchange stamps it; that of
a close is the end of the minute. Bridge, worker, database writer and sidecar are separate processes, as under
`screener up`; this process takes the place of the feed, and reads the alerts as a WebSocket client. Settings come from
the environment, for example SCREENER_FRAME_MAX_DELAY_MS.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import uvloop

from app.cli.candles.replay import ANY_PORT
from app.local.servers.embedded import EmbeddedStack
from app.local.servers.ports import free_port
from app.settings import Settings
from benchmarks.live_run import LiveLoad, LiveRun, measure_live

_QUANTILES = (50, 95, 99, 100)


def run(load: LiveLoad, keep_logs: Path | None) -> LiveRun:
    """Measure on freshly started servers."""
    with (
        tempfile.TemporaryDirectory(prefix="screener-live-") as directory,
        EmbeddedStack.start(Path(directory)) as stack,
    ):
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        ports = {**ANY_PORT, "sidecar_port": free_port()}
        settings = Settings.load(**urls, **ports, data_dir=directory, retention_hours=0, log_level="warning")
        try:
            return uvloop.run(measure_live(settings, load, stack.processes))
        finally:
            if keep_logs:
                shutil.copytree(Path(directory) / "logs", keep_logs, dirs_exist_ok=True)


def latencies(found: LiveRun) -> str:
    """Return the latencies as Markdown, in ms since the exchange's event."""
    lines = ["| alerts | number | until | p50 ms | p95 | p99 | max |", "|---|--:|---|--:|--:|--:|--:|"]
    kinds = {"live": ~found.at_close, "at closes": found.at_close, "all": np.ones_like(found.at_close)}
    for kind, rows in kinds.items():
        for until, since_ms in (("published", found.published_ms), ("received", found.received_ms)):
            figures = " | ".join(f"{value:.0f}" for value in np.percentile(since_ms[rows], _QUANTILES))
            lines.append(f"| {kind} | {rows.sum():,} | {until} | {figures} |")
    return "\n".join(lines)


def cpu(found: LiveRun) -> str:
    """Return the CPU time for each update and the share of a core, as Markdown."""
    lines = ["| process | CPU µs an update | % of a core |", "|---|--:|--:|"]
    for name, seconds in found.cpu_s.items():
        lines.append(
            f"| {name} | {1e6 * seconds / found.updates:.0f} | {100 * seconds / found.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--updates", type=float, default=4.0, help="a second, of each symbol")
    parser.add_argument("--minutes", type=int, default=10, help="measured, each with its close")
    parser.add_argument("--tick-ms", type=int, default=10, help="updates due in so long are one message")
    parser.add_argument("--history", type=int, default=60, help="closed minutes of every symbol before")
    parser.add_argument("--keep-logs", type=Path, help="folder for the logs of the roles")
    arguments = parser.parse_args()
    load = LiveLoad(
        arguments.symbols, arguments.updates, arguments.minutes, arguments.tick_ms, arguments.history
    )
    found = run(load, arguments.keep_logs)
    print(f"{load.symbols} symbols, {load.updates_per_s:g} updates/s each, {load.minutes} minutes\n")
    print(latencies(found))
    print(f"\n{found.updates:,} updates in {found.seconds:.0f} s\n")
    print(cpu(found))


if __name__ == "__main__":
    main()
