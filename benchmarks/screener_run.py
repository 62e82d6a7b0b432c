"""Measures the screener itself, from the first candle on NATS until all candles, metrics and alerts are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial

import psutil

from app.candle_files.reader import by_minutes
from app.candles.batch import MINUTE_MS, CandleBatch
from app.cli.candles.replay import ANY_PORT
from app.clock import SystemClock
from app.replay.replay import Progress, Replay
from app.rules.alert import Alert as FiredAlert
from app.settings import Settings
from benchmarks.measure import Alert, CpuMeter, Result

_NAMESPACE = "benchmark"


async def measure_screener(
    settings: Settings,
    candles: CandleBatch,
    *,
    candles_per_message: int,
    servers: Mapping[str, psutil.Process],
) -> Result:
    """Run the roles bridge, all and sinks, each in a process, as `screener replay --mode close` does.

    The clock starts with the first candle published, once a barrier has passed every stage, and stops when a barrier
    sent after the last candle has passed every stage, including the database writers.
    """
    own = {"namespace": _NAMESPACE, "alert_mode": "close", "retention_hours": 0, **ANY_PORT}
    replay = Replay(
        type(settings).model_validate({**settings.model_dump(), **own}),
        partial(by_minutes, candles),
        SystemClock(),
        log_dir=settings.data_dir / "logs",
        candles_per_message=candles_per_message,
    )
    cpu = CpuMeter()
    cpu_s: dict[str, float] = {}

    def phase(name: str) -> None:
        """Measure CPU time from right before the replay's clock starts until right after it has stopped."""
        if name == "replaying":
            roles = {role: psutil.Process(process.pid) for role, process in replay.roles.processes.items()}
            cpu.start(
                {"worker" if role == "all" else role: found for role, found in roles.items()} | dict(servers)
            )
        elif name == "collecting alerts":
            cpu_s.update(cpu.seconds())

    outcome = await replay.run(Progress(phase=phase, published=lambda _: None))
    if outcome.restarts:
        raise RuntimeError(f"{outcome.restarts} restarts of a role: see the logs in {settings.data_dir}")
    return Result(
        f"screener, {candles_per_message} a message",
        outcome.candles,
        outcome.seconds,
        {_as_alert(alert) for alert in outcome.alerts},
        cpu_s,
    )


def _as_alert(alert: FiredAlert) -> Alert:
    """Return the alert's key; in close mode its timestamp is the end of its minute."""
    end_ms = round(datetime.fromisoformat(alert.timestamp).timestamp() * 1000)
    return alert.rule_type, alert.symbol, end_ms - MINUTE_MS
