"""The command line: every command with its options and its help.

These modules import click and little else. The work of a command is imported when it runs, so that help and a mistake
in the arguments do not wait for the libraries of the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Final

import click

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
CANDLE_FILES: Final = click.Path(exists=True, path_type=Path)
"""A candle file, or a folder of them."""
OUT_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def runs(work: str) -> Callable[[Callable[[], None]], Callable[..., None]]:
    """Have a command call `work` (`module:function`) with its options by name. The command's own function has no body,
    only the help."""
    module, _, name = work.partition(":")

    def decorate(command: Callable[[], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**options: object) -> None:
            from app.process.runtime_tuning import imported

            imported(module, name)(**options)

        return run

    return decorate
