"""A real Prometheus, with our configuration and rules, scrapes a running `screener up`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import troubles
import yaml
from events import make_events, webhook_receiver, websocket_client
from panels import LOADED, jobs, panels, plain
from programs import BIN, ROOT

SCREENER = ROOT / ".venv" / "bin"
START_S = 120.0
RULES_S = 240.0
ALWAYS = {
    "metrics_calculator_calculation_duration_seconds_avg",
    "metrics_calculator_db_insert_duration_seconds_avg",
    "alert_engine_evaluation_duration_seconds_avg",
    "api_gateway_http_duration_seconds_avg",
    "screener_stage_latency_seconds_avg",
    "screener_recovery_duration_seconds_avg",
    "job:metrics_calculator_calculation_duration_seconds:p50",
    "job:metrics_calculator_calculation_duration_seconds:p95",
    "job:metrics_calculator_calculation_duration_seconds:p99",
    "job:alert_engine_evaluation_duration_seconds:p99",
    "job_stage:screener_stage_latency_seconds:p99",
    "job_table:metrics_calculator_db_insert_duration_seconds:p99",
    "job_route:api_gateway_http_duration_seconds:p99",
    "job:screener_rows:rate1m",
    "job:metrics_calculator_memory_bytes_per_symbol:ratio",
    "stage_topic:screener_consumer_lag_records:max",
    'slo:sli_error:ratio_rate5m{slo="ingest-completeness"}',
    'slo:sli_error:ratio_rate5m{slo="api"}',
}
"""Recorded series that have values whatever the market does; those about alerts and webhooks need events."""
WITHOUT_METRICS = {"sidecar", "sim_exchange"}
"""Ports of `screener up` that serve clients, not Prometheus; the sidecar has another one for that."""
EMPTY: dict[tuple[str, str, str], str] = {}
"""(dashboard, panel, legend) of a query that may have no data in this test -> why."""
PANELS_S = 180.0
RATE_INTERVAL = "20s"
"""The interval that Grafana would choose, for a scrape every other second."""
Found = TypeVar("Found")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(
    condition: Callable[[], Found], within_s: float, running: subprocess.Popen[bytes], log: Path
) -> Found:
    """Return the first true value of `condition`; a refused connection counts as not ready yet."""
    deadline = time.monotonic() + within_s
    found: Any = None
    while time.monotonic() < deadline:
        assert running.poll() is None, log.read_text()[-4000:]
        try:
            found = condition()
        except (OSError, urllib.error.URLError) as error:
            found = error
        if found and not isinstance(found, Exception):
            return found
        time.sleep(1)
    pytest.fail(f"not within {within_s} s; last: {found!r}\n{log.read_text()[-4000:]}")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def end(process: subprocess.Popen[bytes], number: int) -> None:
    process.send_signal(number)
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """The ports of `screener up`: name of the setting -> a free port."""
    ask = "from app.cli.up import FEED_PORTS, PORTS; print(*PORTS, *FEED_PORTS)"
    names = subprocess.run(
        [SCREENER / "python", "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return {name: free_port() for name in names.split()}


@pytest.fixture(scope="module")
def screener(ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running `screener up` with a dozen symbols, after the events of `make_events`."""
    folder = tmp_path_factory.mktemp("screener")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SCREENER_")}
    environ |= {f"SCREENER_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    environ |= {"SCREENER_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}
    log = folder / "up.log"
    with log.open("wb") as out, webhook_receiver() as receiver:
        environ |= receiver
        process = subprocess.Popen(
            [SCREENER / "screener", "up", "--symbols", "12"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: "The screener is up" in log.read_text(), START_S, process, log)
            make_events(environ, ports, folder)
            with websocket_client(ports["sidecar"]):
                yield f"http://127.0.0.1:{ports['sidecar']}"
        finally:
            end(process, signal.SIGINT)


def configuration(ports: dict[str, int]) -> dict[str, Any]:
    """Return our configuration with addresses on this machine and a scrape every other second."""
    found = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    found["global"] |= {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    found["rule_files"] = [str(ROOT / "deploy" / "prometheus" / "rules" / "*.yaml")]
    found["alerting"] = {}
    jobs = []
    for job in found["scrape_configs"]:
        role = job["job_name"].removeprefix("screener-")
        port = ports.get("sidecar_metrics" if role == "sidecar" else role)
        if port is not None:
            targets = [{"targets": [f"127.0.0.1:{port}"]}]
            jobs.append({"job_name": job["job_name"], "static_configs": targets})
    return found | {"scrape_configs": jobs}


@pytest.fixture(scope="module")
def prometheus(
    screener: str, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Queries a Prometheus that has been scraping for a while: `ask(path, **parameters)` returns the answer's data."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(ports)))
    url, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"

    def ask(path: str, **parameters: str) -> Any:
        answer = json.loads(get(f"http://{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                BIN / "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={url}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def has_values() -> bool:
        get(f"{screener}/api/metrics/BTCUSDT")
        return all(ask("query", query=series)["result"] for series in ALWAYS)

    try:
        eventually(lambda: ask("targets")["activeTargets"], 60, process, log)
        try:
            eventually(has_values, RULES_S, process, log)
        except pytest.fail.Exception:
            missing = sorted(series for series in ALWAYS if not ask("query", query=series)["result"])
            pytest.fail(f"recorded series without values: {missing}")
        yield ask
    finally:
        end(process, signal.SIGTERM)


def test_every_target_is_up(prometheus: Callable[..., Any], ports: dict[str, int]):
    deadline = time.monotonic() + 60  # one scrape of a busy machine may time out
    while True:
        targets = prometheus("targets")["activeTargets"]
        states = {target["labels"]["job"]: (target["health"], target["lastError"]) for target in targets}
        if states == dict.fromkeys(states, ("up", "")) or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert states == dict.fromkeys(states, ("up", ""))
    assert len(states) == len(set(ports) - WITHOUT_METRICS)
    assert {"screener-collector", "screener-calculator", "screener-alerts", "screener-sinks"} <= set(states)


def test_every_rule_is_loaded_and_evaluates_without_error(prometheus: Callable[..., Any]):
    groups = prometheus("rules")["groups"]
    states = {
        (group["name"], rule["name"]): (rule["health"], rule.get("lastError", ""))
        for group in groups
        for rule in group["rules"]
    }
    assert {name: state for name, state in states.items() if state != ("ok", "")} == {}
    written = [yaml.safe_load(path.read_text()) for path in (ROOT / "deploy/prometheus/rules").glob("*.yaml")]
    assert {group["name"] for group in groups} == {
        group["name"] for file in written for group in file["groups"]
    }


@pytest.mark.parametrize("series", sorted(ALWAYS))
def test_recording_rules_give_values(prometheus: Callable[..., Any], series: str):
    for sample in prometheus("query", query=series)["result"]:
        assert float(sample["value"][1]) >= 0


def lately(prometheus: Callable[..., Any], series: str, compared: str = "") -> list[dict[str, Any]]:
    """Return the last values within a minute: one scrape of a busy machine may time out."""
    return list(prometheus("query", query=f"last_over_time({series}[1m]) {compared}")["result"])


def test_lag_recovery_pools_and_waiting_messages_are_seen(prometheus: Callable[..., Any]):
    lag = lately(prometheus, "screener_consumer_lag_records")
    seen = {sample["metric"]["stage"] for sample in lag}
    assert seen >= {"collector", "calculator", "alerts", "sinks-candles", "sinks-metrics", "sidecar"}
    recovered = lately(prometheus, "screener_recovery_duration_seconds_count", "> 0")
    assert {sample["metric"]["stage"] for sample in recovered} == {"collector", "calculator", "alerts"}
    pools = lately(prometheus, 'database_connection_pool_size{state="max"}', "> 0")
    assert {sample["metric"]["job"] for sample in pools} >= {"screener-sinks", "screener-sidecar"}
    assert lately(prometheus, "nats_consumer_pending_messages")
    memory = prometheus("query", query="job:metrics_calculator_memory_bytes_per_symbol:ratio")["result"]
    assert float(memory[0]["value"][1]) > 1_000
    free = prometheus("query", query="screener_disk_free_bytes / screener_disk_size_bytes")["result"]
    assert all(0 < float(sample["value"][1]) < 1 for sample in free)


def test_a_worker_of_three_roles_counts_nothing_twice(prometheus: Callable[..., Any]):
    for metric, *expected in (
        ("data_collector_candles_received_total", "screener-collector"),
        ("metrics_calculator_candles_processed_total", "screener-calculator"),
        # rules that look at the whole market are evaluated by another role
        ("alert_engine_alerts_evaluated_total", "screener-alerts", "screener-market"),
        ('screener_rows_total{stage="calculator"}', "screener-calculator"),
    ):
        found = lately(prometheus, metric)
        assert sorted(sample["metric"]["job"] for sample in found) == expected


def _is_well(address: str) -> bool:
    """Return whether the role of this address is ready and sees all its servers up. The events before this may have
    made it wait for a server, and one request that a busy exchange did not answer counts until the next."""
    try:
        ready = json.loads(get(f"{address}/health/ready"))
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False
    states = [one["state"] for one in json.loads(get(f"{address}/health"))["dependencies"].values()]
    return ready == {"ready": True} and bool(states) and set(states) == {"up"}


def test_every_role_answers_three_questions_about_its_health(screener: str, ports: dict[str, int]):
    assert json.loads(get(f"{screener}/api/health"))["status"] in {"ok", "degraded"}
    for name in set(ports) - WITHOUT_METRICS:
        address = f"http://127.0.0.1:{ports[name]}"
        assert json.loads(get(f"{address}/health/live")) == {"live": True}
        troubles.eventually(f"{name} is ready and sees its servers up", partial(_is_well, address), 60)


def test_a_sound_screener_raises_no_critical_alert_and_shows_that_alerting_works(
    prometheus: Callable[..., Any],
):
    firing = prometheus("query", query='ALERTS{alertstate="firing"}')["result"]
    names = {(sample["metric"]["alertname"], sample["metric"]["severity"]) for sample in firing}
    assert ("ScreenerDeadMan", "none") in names
    critical = {name for name, severity in names if severity == "critical"}
    assert critical - {"ScreenerAlertLatencyBudgetBurn"} == set()  # this machine runs all, and may be busy


def without_data(ask: Callable[..., Any], name: str, since_s: float) -> dict[tuple[str, str, str], str]:
    """Return (dashboard, panel, legend) -> PromQL for the queries that have no number since `since_s`."""
    missing = {}
    for panel in panels(LOADED[name]):
        for target in panel["targets"]:
            query = plain(target["expr"], RATE_INTERVAL, jobs(LOADED[name]))
            found = ask("query_range", query=query, start=str(since_s), end=str(time.time()), step="5")[
                "result"
            ]
            numbers = [value for series in found for _, value in series["values"] if value != "NaN"]
            if not numbers:
                missing[name, panel["title"], target["legendFormat"]] = query
    return missing


@pytest.mark.parametrize("name", sorted(LOADED))
def test_every_query_of_a_dashboard_has_data_once_things_have_happened(
    prometheus: Callable[..., Any], name: str
):
    deadline = time.monotonic() + PANELS_S
    since_s = time.time() - 600
    while True:
        missing = without_data(prometheus, name, since_s)
        unexplained = {key: query for key, query in missing.items() if key not in EMPTY}
        if not unexplained or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert unexplained == {}
