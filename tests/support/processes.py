"""Processes started as a user starts them in a terminal."""

from __future__ import annotations

import signal


def heed_ctrl_c() -> None:
    """Restore SIGINT's default action, in a new process before its program. A shell starts background jobs with SIGINT
    ignored, which the tests and their child processes inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
