"""Progress of long work: a bar on a terminal, else log lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S: Final = 10.0
log = structlog.get_logger("feed")


class MinutesProgress:
    """Shows how many of the wanted minutes, whose number may grow, are fetched."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("fetching minutes", total=0, visible=False)
        self._shows_bar = console.is_terminal
        self._wanted = 0
        self._fetched = 0
        self._line_at_s = time.monotonic() + _LINE_EVERY_S

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            yield

    def want(self, minutes: int) -> None:
        self._wanted += minutes
        self._show()

    def fetched(self, minutes: int) -> None:
        self._fetched += minutes
        self._show()

    def settle(self) -> None:
        """Finish the work; the next work counts from 0."""
        self._wanted = self._fetched = 0
        self._show()

    def _show(self) -> None:
        self._bar.update(
            self._task, total=self._wanted, completed=self._fetched, visible=self._wanted > self._fetched
        )
        if not self._shows_bar and self._wanted and time.monotonic() >= self._line_at_s:
            self._line_at_s = time.monotonic() + _LINE_EVERY_S
            log.info("fetching_minutes", fetched=self._fetched, wanted=self._wanted)
