"""Processes as a person starts them."""

from __future__ import annotations

import signal


def heed_ctrl_c() -> None:
    """In a new process before its program: heed SIGINT as from a terminal. A shell starts what it puts into the
    background with SIGINT ignored, and that goes on to the tests and to what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
