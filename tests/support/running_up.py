"""A test's own `screener up`, started as a user does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from app.cli.up import FEED_PORTS, PORTS
from app.local.servers.ports import free_port
from app.process.children.child import wait_ended
from tests.support.eventually import eventually

START_S = 90.0
"""The time for a dozen processes to import and start, as CPU work (`of_work` of `eventually`)."""


class Up:
    """A running `screener up` with its own ports and folder."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.ports = {name: free_port() for name in (*PORTS, *FEED_PORTS)}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SCREENER_")}
        environ |= {f"SCREENER_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        # the tests poll until a condition holds
        environ |= {"SCREENER_RATE_LIMIT_PER_MINUTE": "0"}
        environ |= {"SCREENER_DATA_DIR": str(directory / "data"), "COLUMNS": "200", **settings}
        self.environ = environ
        self.output = directory / "up.log"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "up", "--symbols", "12", *arguments],
                env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['sidecar']}"

    def server_url(self, name: str) -> str:
        """Return the URL of a server, with its password."""
        listed = subprocess.run(
            [sys.executable, "-m", "app", "servers", "--secrets", "--json"],
            env=self.environ, capture_output=True, check=True,
        )  # fmt: skip
        return str(json.loads(listed.stdout)[name])

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def find(self, word: str) -> psutil.Process | None:
        """Return a running descendant with `word` in its command line."""
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

    async def is_up(self, within_s: float = START_S) -> None:
        await eventually(
            lambda: "The screener is up" in self.text() or self.process.poll() is not None,
            within_s,
            of_work=True,
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
        for process in wait_ended(family, 10):
            process.kill()
