"""A real Alertmanager, with our configuration and templates, tells people: Slack, PagerDuty, the dead man's switch."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from programs import BIN, ROOT

CONFIGURATION = ROOT / "deploy" / "alertmanager"
WITHIN_S = 60.0
Told = list[tuple[str, dict[str, Any]]]
"""(path, JSON body) of each notification."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[tuple[str, Told]]:
    """Slack, PagerDuty and the service outside, in one server on loopback."""
    told: Told = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((self.path, json.loads(body)))
            self.send_response(202 if "enqueue" in self.path else 200)
            self.end_headers()
            self.wfile.write(b'{"status": "success"}' if "enqueue" in self.path else b"ok")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def configuration(folder: Path, url: str) -> Path:
    """Ours, with the addresses of this machine and hardly any waiting for more alerts of a group."""
    text = (CONFIGURATION / "alertmanager.yml").read_text()
    text = text.replace("/etc/alertmanager/secrets", str(folder))
    text = text.replace("templates/*.tmpl", str(CONFIGURATION / "templates" / "*.tmpl"))
    text = text.replace("http://dead-man-switch:8080", url)
    # warnings wait a little: an alert that inhibits others is known to those who tell them only a moment later
    text = re.sub(r"group_wait: (10|0)s", "group_wait: 0s", text).replace("group_wait: 30s", "group_wait: 2s")
    text = text.replace("global:\n", f"global:\n  pagerduty_url: {url}/v2/enqueue\n")
    (folder / "slack_api_url").write_text(f"{url}/slack")
    (folder / "pagerduty_routing_key").write_text("key-for-tests")
    target = folder / "alertmanager.yml"
    target.write_text(text)
    return target


@pytest.fixture(scope="module")
def notify(
    receiver: tuple[str, Told], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., None]]:
    """Sends an alert, by labels, to a running Alertmanager, as Prometheus does."""
    folder = tmp_path_factory.mktemp("alertmanager")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    program = (
        [BIN / "prometheus-alertmanager"] if (BIN / "prometheus-alertmanager").exists() else ["alertmanager"]
    )
    log = folder / "alertmanager.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *program,
                f"--config.file={configuration(folder, receiver[0])}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def send(**labels: str) -> None:
        alert = {
            "labels": labels,
            "annotations": {
                "summary": f"summary of {labels['alertname']}",
                "description": "what is wrong",
                "runbook_url": f"https://screener.example/runbooks/{labels['alertname']}.md",
            },
        }
        request = urllib.request.Request(
            f"http://{address}/api/v2/alerts",
            json.dumps([alert]).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):
            return

    try:
        wait_for(lambda: ready(address), process, log)
        yield send
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(
    condition: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, log: Path | None = None
) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        assert process is None or process.poll() is None, log and log.read_text()[-3000:]
        time.sleep(0.1)
    pytest.fail(f"not within {WITHIN_S} s")


def slack(told: Told, name: str) -> dict[str, Any] | None:
    return next((body for path, body in told if path == "/slack" and name in json.dumps(body)), None)


def test_a_critical_alert_goes_to_pagerduty_and_slack_with_its_runbook(
    notify: Callable[..., None], receiver: tuple[str, Told]
):
    told = receiver[1]
    notify(alertname="ScreenerServiceDown", severity="critical", job="screener-alerts", instance="a:1")
    paged = wait_for(lambda: next((body for path, body in told if path == "/v2/enqueue"), None))
    assert paged["routing_key"] == "key-for-tests"
    assert paged["payload"]["severity"] == "critical"
    assert paged["payload"]["summary"] == "[firing 1] ScreenerServiceDown screener-alerts"
    assert "runbooks/ScreenerServiceDown.md" in paged["payload"]["custom_details"]["firing"]
    message = wait_for(lambda: slack(told, "ScreenerServiceDown"))
    assert message["channel"] == "#screener-critical"
    attachment = message["attachments"][0]
    assert attachment["title"] == "[firing 1] ScreenerServiceDown screener-alerts"
    assert attachment["title_link"] == "https://screener.example/runbooks/ScreenerServiceDown.md"
    assert "summary of ScreenerServiceDown\nwhat is wrong\nRunbook: https://" in attachment["text"]


def test_a_warning_goes_to_slack_only(notify: Callable[..., None], receiver: tuple[str, Told]):
    told = receiver[1]
    notify(alertname="ScreenerSlowDatabaseInserts", severity="warning", job="screener-sinks")
    message = wait_for(lambda: slack(told, "ScreenerSlowDatabaseInserts"))
    assert message["channel"] == "#screener"
    assert not [body for path, body in told if path == "/v2/enqueue" and "SlowDatabase" in json.dumps(body)]


def test_the_dead_man_switch_is_told_and_nobody_else(notify: Callable[..., None], receiver: tuple[str, Told]):
    told = receiver[1]
    notify(alertname="ScreenerDeadMan", severity="none")
    body = wait_for(lambda: next((body for path, body in told if path == "/screener"), None))
    assert [alert["labels"]["alertname"] for alert in body["alerts"]] == ["ScreenerDeadMan"]
    assert slack(told, "ScreenerDeadMan") is None


def test_what_follows_from_a_role_that_is_down_is_not_told_too(
    notify: Callable[..., None], receiver: tuple[str, Told]
):
    told = receiver[1]
    notify(alertname="ScreenerServiceDown", severity="critical", job="screener-sinks", instance="b:1")
    wait_for(lambda: slack(told, "screener-sinks"))
    notify(alertname="ScreenerNotReady", severity="warning", job="screener-sinks", instance="b:1")
    notify(alertname="ScreenerNotReady", severity="warning", job="screener-feed", instance="c:1")
    message = wait_for(lambda: slack(told, "ScreenerNotReady"))
    assert "screener-feed" in json.dumps(message)
    assert not [
        body
        for path, body in told
        if path == "/slack" and "ScreenerNotReady screener-sinks" in json.dumps(body)
    ]
