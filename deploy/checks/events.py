"""Events for a running `screener up` while Prometheus watches it, so that its metrics count something: alerts, webhooks
that fail and arrive, faults of the exchange, a rejected request, a client."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from programs import ROOT

_SCREENER: Final = ROOT / ".venv" / "bin" / "screener"
_RULES: Final = """\
rules:
  - {rule_type: every_minute, expression: price > 0, severity: low, cooldown_s: 60}
  - {rule_type: whole_market, expression: share(price > 0) > 0.5, severity: low, cooldown_s: 60}
"""
_FAULTS: Final = (
    {"kind": "duplicate"},
    {"kind": "correction"},
    {"kind": "gap", "symbols": ["BTCUSDT"]},
    {"kind": "garbage"},
    {"kind": "drop"},
)
_FAILING: Final = 1
"""How many requests the receiver answers with 500 before it accepts one; more would burn the budget of webhooks."""


class _Receiver(http.server.BaseHTTPRequestHandler):
    seen = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).seen += 1
        self.send_response(500 if self.seen <= _FAILING else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def webhook_receiver() -> Iterator[dict[str, str]]:
    """Run a receiver on this machine; yield settings for a screener that sends its alerts to it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "SCREENER_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/",
                "SCREENER_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            }
        finally:
            server.shutdown()
            thread.join()


def make_events(environ: Mapping[str, str], ports: Mapping[str, int], folder: Path) -> None:
    """Cause the events. environ: the variables of the running `screener up`."""
    rules = folder / "rules.yaml"
    rules.write_text(_RULES)
    subprocess.run([_SCREENER, "rules", "apply", rules], env=dict(environ), check=True)
    for fault in _FAULTS:
        body = json.dumps(fault).encode()
        address = f"http://127.0.0.1:{ports['sim_exchange']}/sim/faults"
        urllib.request.urlopen(urllib.request.Request(address, body), timeout=10).close()
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{ports['sidecar']}/api/metrics/NONE", timeout=10).close()
    except urllib.error.HTTPError as refused:
        refused.close()


@contextmanager
def websocket_client(port: int) -> Iterator[None]:
    """Keep a client of /ws/alerts connected that reads nothing."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /ws/alerts HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request.encode())
        assert b" 101 " in client.recv(4096).partition(b"\r\n")[0]
        yield
