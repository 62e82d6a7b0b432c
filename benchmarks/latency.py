"""The latency from a candle published on NATS to its alert at a WebSocket client: `python -m benchmarks.latency`.

A market closes all its minutes in the same second, and that second is when alerts matter: 500 symbols close
at once, one JSON message each, and a rule fires for every one of them. Each role runs in its own process on the
embedded servers. The latency of an alert is measured from right before its candle is handed to the NATS socket to
the last byte of the alert at the client. There are several rounds, with quiet minutes in between that end the
cooldown.
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
from benchmarks.latency_run import STAGES, Load, Series, measure

_QUANTILES = (50, 95, 99, 100)


def run_mode(mode: str, client_counts: list[int], load: Load, keep: Path | None) -> list[Series]:
    """Measure on freshly started servers. `keep`: where the logs of the roles go."""
    with (
        tempfile.TemporaryDirectory(prefix="screener-latency-") as directory,
        EmbeddedStack.start(Path(directory)) as stack,
    ):
        urls = {f"{server}_url": url for server, url in stack.urls.items()}
        ports = {**ANY_PORT, "sidecar_port": free_port()}
        settings = Settings.load(
            **urls,
            **ports,
            data_dir=directory,
            alert_mode=mode,
            # the minutes of the rounds are hours old: by default their alerts would be sent to nobody
            alert_backfilled_after_s=0,
            retention_hours=0,
            log_level="warning",
        )
        try:
            return uvloop.run(measure(settings, client_counts, load))
        finally:
            if keep:
                shutil.copytree(Path(directory) / "logs", keep / mode, dirs_exist_ok=True)


def summary(series: list[Series]) -> str:
    """Return a Markdown table with one row per series; latency in ms."""
    lines = [
        "| mode | clients | alerts received | p50 ms | p95 | p99 | max | p99 of the best and worst round |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for one in series:
        received = one.since_ms[..., -1]
        figures = " | ".join(f"{value:.0f}" for value in np.percentile(received, _QUANTILES))
        by_round = np.percentile(received, 99, axis=(0, 2))
        lines.append(
            f"| {one.mode} | {one.clients} | {received.size:,} | {figures} "
            f"| {by_round.min():.0f}, {by_round.max():.0f} |"
        )
    return "\n".join(lines)


def stages(series: list[Series]) -> str:
    """Return a Markdown table of when each stage was done with the candle: ms since published, p50 and p99."""
    lines = [
        "| mode | clients | " + " | ".join(STAGES) + " |",
        "|---|--:|" + "--:|" * len(STAGES),
    ]
    for one in series:
        p50, p99 = np.percentile(one.since_ms, (50, 99), axis=(0, 1, 2))
        cells = " | ".join(f"{middle:.0f} / {high:.0f}" for middle, high in zip(p50, p99, strict=True))
        lines.append(f"| {one.mode} | {one.clients} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=10, help="measured, for each number of clients")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before them")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20], help="WebSocket clients")
    parser.add_argument("--modes", nargs="+", choices=["live", "close"], default=["live", "close"])
    parser.add_argument("--over-ms", type=int, default=0, help="spread the closes evenly over so long")
    parser.add_argument("--keep-logs", type=Path, help="folder for the logs of the roles")
    arguments = parser.parse_args()
    load = Load(arguments.symbols, arguments.rounds, arguments.warm_up, arguments.over_ms)
    found = [
        series
        for mode in arguments.modes
        for series in run_mode(mode, arguments.clients, load, arguments.keep_logs)
    ]
    print(f"{load.symbols} closes at once, over {load.over_ms} ms, {load.rounds} rounds\n")
    print(summary(found))
    print(f"\nMilliseconds since published, p50 / p99, when a stage was done:\n\n{stages(found)}")


if __name__ == "__main__":
    main()
