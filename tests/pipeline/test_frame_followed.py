"""One candle followed through all stages: by the frame's id in the logs, and as a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.settings import Settings
from tests.support.live_pipeline import QUIET_MINUTES, closed, forming, live_pipeline, updates
from tests.support.replays import replay_settings

STAGES = ("bridge", "collector", "calculator", "alerts")


@asynccontextmanager
async def trace_receiver() -> AsyncIterator[tuple[str, list[Any]]]:
    """(URL, spans received): what an OpenTelemetry collector does with OTLP over HTTP."""
    spans: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        found = ExportTraceServiceRequest.FromString(await request.read())
        for resource in found.resource_spans:
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        return web.Response()

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces", spans
    finally:
        await runner.cleanup()


def events(log_file: Path) -> list[dict[str, Any]]:
    lines = log_file.read_bytes().splitlines()
    return [orjson.loads(line) for line in lines if line.startswith(b"{")]


async def test_the_candle_that_caused_an_alert_is_found_in_every_stage(
    settings: Settings, tmp_path: Path
) -> None:
    async with trace_receiver() as (url, spans):
        wanted = {"alert_mode": "live", "trace_url": url, "log_level": "debug", "log_format": "json"}
        async with live_pipeline(replay_settings(settings, **wanted), tmp_path) as pipeline:
            await pipeline.send(
                updates("AUSDT", *(closed(minute, 100.0, 100.0) for minute in range(QUIET_MINUTES)))
            )
            await pipeline.send(updates("AUSDT", forming(QUIET_MINUTES, 20_000, 102.0, 1000.0)))
            await pipeline.send(updates("AUSDT", closed(QUIET_MINUTES, 102.0, 1000.0)))
            alerts = await pipeline.alerts()
        assert alerts

    worker, bridge, sinks = (events(tmp_path / f"{role}.log") for role in ("all", "bridge", "sinks"))
    published = [event for event in worker if event["event"] == "alerts_published"]
    of_alert = {listed.split()[0]: event["frame_id"] for event in published for listed in event["alerts"]}
    assert {alert["id"] for alert in alerts} <= set(of_alert)
    frame_id = of_alert[alerts[0]["id"]]
    assert [event["frame_id"] for event in bridge if event["event"] == "frame_made"].count(frame_id) == 1
    done = [
        event["logger"]
        for event in worker
        if event["event"] == "frame_done" and event["frame_id"] == frame_id
    ]
    assert done == ["collector", "calculator", "alerts"]
    stored = [event for event in sinks if event["event"] == "rows_stored"]
    assert any(alerts[0]["id"] in event["of"] for event in stored if event["table"] == "alert_history")
    frames = {event["frame_id"] for event in bridge if event["event"] == "frame_made"}
    assert {name for event in stored if event["table"] == "candles_1m" for name in event["of"]} <= frames

    of_frame = [span for span in spans if span.trace_id.hex() == frame_id]
    assert {span.name for span in of_frame} >= set(STAGES)
    root = next(span for span in of_frame if span.name == "bridge")
    assert root.parent_span_id == b""
    assert {span.parent_span_id for span in of_frame if span.name != "bridge"} == {root.span_id}
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in of_frame)
    assert {span.name for span in spans} >= {*STAGES, "sinks-candles"}
