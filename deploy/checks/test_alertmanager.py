"""A real Alertmanager, with our configuration and templates, notifies Slack, PagerDuty and the dead man's switch."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from programs import BIN, ROOT, run

CONFIGURATION = ROOT / "deploy" / "alertmanager"
WITHIN_S = 60.0
Told = list[tuple[str, dict[str, Any]]]
"""(path, JSON body) of each notification."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[tuple[str, Told]]:
    """One server on loopback in place of Slack, PagerDuty and the external service of the dead man's switch."""
    told: Told = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/screener"):
                # an external answer takes a while, and the next repeat is timed from it
                time.sleep(0.3)
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


def written(folder: Path, **secrets: str) -> Path:
    """Return the configuration that deploy/alertmanager/start.sh writes for these secrets."""
    environ = {"PATH": os.environ["PATH"], "CONFIGURATION_DIR": str(CONFIGURATION), "RUN_DIR": str(folder)}
    start = ["sh", str(CONFIGURATION / "start.sh"), "env"]
    done = subprocess.run(start, env=environ | secrets, check=True, capture_output=True, text=True)
    assert not [name for name in secrets if name in done.stdout], "the server needs no secret as a variable"
    return folder / "alertmanager.yml"


def configuration(folder: Path, url: str) -> Path:
    """Return our configuration with addresses on this machine, hardly any wait for more alerts of a group, and minutes
    of four seconds for the dead man's switch."""
    target = written(
        folder,
        SLACK_API_URL=f"{url}/slack",
        PAGERDUTY_ROUTING_KEY="key-for-tests",
        DEAD_MAN_URL=f"{url}/screener?key=a&b|c",
    )
    text = target.read_text()
    # warnings wait a little: notifiers learn of an alert that inhibits others only a moment later
    text = re.sub(r"group_wait: (10|0)s", "group_wait: 0s", text).replace("group_wait: 30s", "group_wait: 2s")
    text = text.replace("_interval: 1m", "_interval: 4s").replace("_interval: 45s", "_interval: 3s")
    text = text.replace("global:\n", f"global:\n  pagerduty_url: {url}/v2/enqueue\n")
    target.write_text(text)
    return target


class Running(NamedTuple):
    send: Callable[..., None]
    """Sends an alert with these labels, as Prometheus does."""
    metric: Callable[[str], float]
    """Returns the sum of all series with a name."""
    log: Path


@contextmanager
def alertmanager(folder: Path, config: Path) -> Iterator[Running]:
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
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
                "--log.level=debug",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # if install.py unpacked it, its own templates are in this folder
            cwd=BIN,
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

    def metric(name: str) -> float:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    try:
        wait_for(lambda: ready(address), process, log)
        yield Running(send, metric, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def notify(
    receiver: tuple[str, Told], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., None]]:
    """A function that sends an alert with these labels to a running Alertmanager, as Prometheus does."""
    folder = tmp_path_factory.mktemp("alertmanager")
    with alertmanager(folder, configuration(folder, receiver[0])) as running:
        yield running.send


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
    body = wait_for(lambda: next((body for path, body in told if path == "/screener?key=a&b|c"), None))
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


def test_the_dead_man_switch_is_told_every_minute(notify: Callable[..., None], receiver: tuple[str, Told]):
    told = receiver[1]

    def times() -> int:
        return sum(path.startswith("/screener") for path, _ in told)

    notify(alertname="ScreenerDeadMan", severity="none")
    before, began_s = wait_for(times), time.monotonic()
    wait_for(lambda: times() >= before + 3)
    # three of its minutes, here of four seconds; with repeats as long as the interval it would take six
    assert time.monotonic() - began_s < 5 * 4


@pytest.mark.parametrize("off", ["", "none"])
def test_what_is_off_gets_nothing_and_fails_at_nothing(tmp_path: Path, off: str):
    config = written(tmp_path, SLACK_API_URL=off, PAGERDUTY_ROUTING_KEY=off, DEAD_MAN_URL=off)
    run("amtool", "check-config", config)
    config.write_text(re.sub(r"group_wait: \d+s", "group_wait: 0s", config.read_text()))
    with alertmanager(tmp_path, config) as running:
        for severity in ("critical", "warning", "none"):
            name = "ScreenerDeadMan" if severity == "none" else "ScreenerServiceDown"
            running.send(alertname=name, severity=severity, job="screener-alerts")
        wait_for(lambda: running.log.read_text().count("msg=flushing") >= 4)
        time_to_fail_s = 2.0
        time.sleep(time_to_fail_s)
        assert running.metric("alertmanager_notifications_total") == 0
        assert running.metric("alertmanager_notifications_failed_total") == 0
        assert "level=error" not in running.log.read_text()


def test_each_channel_is_on_or_off_by_itself(tmp_path: Path):
    config = written(tmp_path, PAGERDUTY_ROUTING_KEY="key", SLACK_API_URL="none")
    run("amtool", "check-config", config)
    text = config.read_text()
    assert "routing_key_file" in text
    assert "slack_configs" not in text
    assert "dead-man.invalid" not in text
