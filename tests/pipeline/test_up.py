"""`screener up`, as a person runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest

from app.exit_status import EXIT_CONFIG, EXIT_TEMPORARY
from app.stack.ports import free_port
from tests.support.eventually import eventually

PORTS = (
    "sidecar",
    "sidecar_metrics",
    "collector",
    "calculator",
    "alerts",
    "bridge",
    "sinks",
    "feed",
    "sim_exchange",
    "webhooks",
)
START_S = 90.0


class Up:
    """A running `screener up` with ports and a folder of its own."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.ports = {name: free_port() for name in PORTS}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SCREENER_")}
        environ |= {f"SCREENER_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        # the tests ask again and again until a condition holds
        environ |= {"SCREENER_RATE_LIMIT_PER_MINUTE": "0"}
        environ |= {"SCREENER_DATA_DIR": str(directory / "data"), "COLUMNS": "200", **settings}
        self.output = directory / "up.log"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "up", "--symbols", "12", *arguments],
                env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['sidecar']}"

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def find(self, word: str) -> psutil.Process | None:
        """A running process of ours with `word` in its command line."""
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):  # a zombie counts as gone
                if word in " ".join(process.cmdline()):
                    return process
        return None

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def is_up(self) -> None:
        await eventually(
            lambda: "The screener is up" in self.text() or self.process.poll() is not None, START_S
        )
        assert self.process.poll() is None, self.text()

    async def ended(self) -> int:
        code = await eventually(lambda: (self.process.poll() is not None, self.process.returncode)[0], 60.0)
        assert code
        return int(self.process.returncode)


@contextmanager
def running(directory: Path, *arguments: str, **settings: str) -> Iterator[Up]:
    up = Up(directory, *arguments, **settings)
    try:
        yield up
    finally:
        family = up.descendants()
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
            try:
                up.process.wait(60)
            except subprocess.TimeoutExpired:
                up.process.kill()
        psutil.wait_procs(family, timeout=10)
        for process in family:
            if process.is_running():
                process.kill()


async def test_it_serves_metrics_of_simulated_symbols_and_leaves_no_process_on_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        await up.is_up()
        async with aiohttp.ClientSession() as session:

            async def whole_windows() -> object:
                async with session.get(f"{up.url}/api/metrics/BTCUSDT") as answer:
                    if answer.status != 200:
                        return None
                    found = await answer.json()
                return found["timeframes"]["1d"]["price_change"]

            change = await eventually(whole_windows, START_S)
            assert isinstance(change, float)
            async with session.get(f"{up.url}/api/health") as answer:
                health = await answer.json()
            assert answer.status == 200
            assert {name: state["state"] for name, state in health["dependencies"].items()} == {
                "kafka": "up", "nats": "up", "postgres": "up", "redis": "up",
            }  # fmt: skip
            async with session.ws_connect(f"{up.url}/ws/alerts") as socket_:
                assert not socket_.closed
        family = up.descendants()
        assert len(family) >= 9
        up.process.send_signal(signal.SIGINT)
        assert await up.ended() == 0
        _gone, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
        assert "stopped" in up.text()


async def test_a_killed_server_is_reported_and_ends_it(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        await up.is_up()
        server = up.find("nats-server")
        assert server is not None
        server.send_signal(signal.SIGKILL)
        assert await up.ended() != 0
        assert "NATS was ended by signal SIGKILL" in up.text()
        assert "SCREENER_NATS_URL" in up.text()


async def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        await up.is_up()
        first = up.find("app.main:all")
        assert first is not None
        first.send_signal(signal.SIGKILL)

        def another() -> bool:
            found = up.find("app.main:all")
            return found is not None and found.pid != first.pid

        await eventually(another)

        async def ready() -> bool:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"http://127.0.0.1:{up.ports['collector']}/health/ready") as answer,
                ):
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await eventually(ready, START_S)
        assert up.process.poll() is None


async def test_live_says_that_the_exchange_cannot_be_reached_before_anything_runs(tmp_path: Path) -> None:
    urls = {
        "SCREENER_EXCHANGE_REST_URL": "http://127.0.0.1:1",
        "SCREENER_EXCHANGE_WS_URL": "ws://127.0.0.1:1",
    }
    with running(tmp_path, "--live", **urls) as up:
        assert await up.ended() == EXIT_TEMPORARY
        assert "the exchange binance at http://127.0.0.1:1/fapi/v1/time does not answer" in up.text()
        assert "SCREENER_EXCHANGE_REST_URL" in up.text()
        assert "Traceback" not in up.text()
        assert up.descendants() == []
        assert not (tmp_path / "data").exists()


async def test_a_taken_port_is_reported_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with running(tmp_path, SCREENER_SIDECAR_PORT=str(other.getsockname()[1])) as up:
            assert await up.ended() == 78
            assert "SCREENER_SIDECAR_PORT" in up.text()
            assert "Traceback" not in up.text()


@pytest.mark.parametrize(
    ("setting", "value", "status"),
    [
        ("SCREENER_KAFKA_URL", "127.0.0.1:1", EXIT_TEMPORARY),
        ("SCREENER_NATS_URL", "nats://127.0.0.1:1", EXIT_TEMPORARY),
        ("SCREENER_PARTITIONS", "many", EXIT_CONFIG),
        ("SCREENER_NO_SUCH_SETTING", "1", EXIT_CONFIG),
    ],
)
async def test_a_wrong_setting_is_named_before_anything_runs(
    tmp_path: Path, setting: str, value: str, status: int
) -> None:
    with running(tmp_path, **{setting: value}) as up:
        assert await up.ended() == status
        assert setting in up.text()
        assert "Traceback" not in up.text()
