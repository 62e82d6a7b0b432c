"""The pages that a worker of three roles shows to Prometheus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.local.servers.ports import LOOPBACK, free_port
from app.settings import Settings
from app.telemetry.catalogue import PROCESS, RoleRegistry
from tests.support.live_pipeline import QUIET_MINUTES, closed, forming, live_pipeline, updates
from tests.support.replays import replay_settings

ROLES = ("collector", "calculator", "alerts")
Sample = tuple[str, frozenset[tuple[str, str]]]
"""Name and labels."""


async def page(port: int) -> tuple[set[str], dict[Sample, float]]:
    """(names of the families, sample -> value) without the metrics of the process, which every page has."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics") as answer,
    ):
        text = await answer.text()
    # when a series was created is a family of its own in the text
    families = [one for one in text_string_to_metric_families(text) if not one.name.endswith("_created")]
    process = CollectorRegistry()
    PROCESS.metrics_of(process)
    of_process = {family.name for family in process.collect()}
    shown = [
        family
        for family in families
        if family.name not in of_process and not family.name.startswith(("process_", "python_"))
    ]
    assert of_process <= {family.name for family in families}
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in shown
        for sample in family.samples
    }
    return {family.name for family in shown}, samples


async def test_a_worker_of_three_roles_shows_each_sample_on_one_page(
    settings: Settings, tmp_path: Path
) -> None:
    ports = {f"{role}_port": free_port() for role in ROLES}
    wanted = replay_settings(settings, alert_mode="live", **ports)
    async with live_pipeline(wanted, tmp_path) as pipeline:
        await pipeline.send(
            updates("AUSDT", *(closed(minute, 100.0, 100.0) for minute in range(QUIET_MINUTES)))
        )
        await pipeline.send(updates("AUSDT", forming(QUIET_MINUTES, 20_000, 102.0, 1000.0)))
        pages = {role: await page(ports[f"{role}_port"]) for role in ROLES}

    for role, (names, _) in pages.items():
        registry = RoleRegistry(role, CollectorRegistry())
        own = {family.name for family in registry.collect()}
        assert names == own - {family.name for family in registry.process.collect()}

    shown = Counter(sample for _, samples in pages.values() for sample in samples)
    assert [sample for sample, pages_with_it in shown.items() if pages_with_it > 1] == []

    def where(name: str, **labels: str) -> set[str]:
        sample = name, frozenset(labels.items())
        return {role for role, (_, samples) in pages.items() if samples.get(sample, 0) > 0}

    assert where("database_queries_total", operation="load_minutes") == {"calculator"}
    assert where("database_queries_total", operation="read_rules") == {"alerts"}
    for role in ROLES:
        assert where("screener_frames_total", stage=role) == {role}
    assert where("alert_engine_alerts_triggered_total", rule_type="futures_pioneer_bull") == {"alerts"}
