"""The type of a request handler, and small wire values that the handlers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kio.static.primitive import i32Timedelta
from kio.static.protocol import Payload

NO_THROTTLE = i32Timedelta.parse(timedelta(0))
NODE_ID = 0


@dataclass(frozen=True, slots=True)
class Api:
    """One version of one kind of request; a handler that returns None sends no answer."""

    request: type[Payload]
    answer: Callable[[Any], Awaitable[Payload | None]]

    @property
    def key(self) -> int:
        return int(self.request.__api_key__)

    @property
    def version(self) -> int:
        return int(self.request.__version__)
