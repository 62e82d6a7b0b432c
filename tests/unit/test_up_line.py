"""The line of figures of `screener up`: what each role says at its own port, and nothing twice."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
from prometheus_client import CollectorRegistry
from rich.console import Console

from app.cli.up import _SHOWN, _line, _Up
from app.settings import Settings
from app.telemetry import alert_metrics, calculator_metrics, collector_metrics
from app.telemetry.health_server import serve_health


async def test_rates_and_alerts_are_those_of_the_ports_of_their_roles() -> None:
    registries = {role: CollectorRegistry() for role in _SHOWN}
    async with AsyncExitStack() as exits, aiohttp.ClientSession() as session:
        ports = {
            f"{role}_port": await exits.enter_async_context(
                serve_health(
                    "127.0.0.1", 0, live=bool, ready=bool, setting="PORT", registry=registry
                )
            )
            for role, registry in registries.items()
        }  # fmt: skip
        console = Console(quiet=True)
        up = _Up(Settings.load({}, **ports), None, (), console, console.status(""))
        calculated = calculator_metrics(registries["calculator"]).metrics_calculated
        received = collector_metrics(registries["collector"]).candles_received
        received.inc(5)
        calculated.inc(3)
        before = await up._figures(session)
        received.inc(40)
        calculated.inc(20)
        alert_metrics(registries["alerts"]).triggered.labels("a").inc(2)
        alert_metrics(registries["market"]).triggered.labels("b").inc(1)
        line = _line(before, await up._figures(session), 2.0, 0, with_feed=False)
    assert line.startswith("20 candles/s | 10 rows/s | 3 alerts | ")
