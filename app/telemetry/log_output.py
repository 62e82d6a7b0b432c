"""The log of a process: one line an event, as text or JSON, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

_OF_SERVICES: Final = ("faust", "mode")
_REPEATING: Final = ("aiokafka", "kafka", "nats", "psycopg", "redis", *_OF_SERVICES)
_PASS_EVERY_S: Final = 60.0
_MASK: Final = "***"
_SECRET_KEYS: Final = re.compile(
    r"password|passwd|secret|token|authorization|api_?key|jwt|cookie", re.IGNORECASE
)
_URL_PASSWORD: Final = re.compile(r"(\w+://[^:/@\s]*):[^@\s]+@")
_QUERY_SECRET: Final = re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)=[^\s&;'\"]+")
_BEARER: Final = re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+")


def masked(text: str) -> str:
    """Return `text` without passwords in URLs, `password=`-like pairs, and bearer tokens."""
    text = _URL_PASSWORD.sub(rf"\1:{_MASK}@", text)
    text = _QUERY_SECRET.sub(rf"\1={_MASK}", text)
    return _BEARER.sub(f"Bearer {_MASK}", text)


def _mask_value(key: str, value: object) -> object:
    if value is not None and _SECRET_KEYS.search(key):
        return _MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _mask_value(str(name), item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_value(key, item) for item in value]
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return masked(str(value))


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide values under secret-like keys, and secrets inside any text. A structlog processor."""
    return {key: value if key.startswith("_") else _mask_value(key, value) for key, value in event.items()}


_SHARED: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    structlog.processors.UnicodeDecoder(),
    mask_secrets,
]


class LibraryRepeats(logging.Filter):
    """Passes one warning and one error a minute of each library, with the number of records left out before it.

    aiokafka and nats-py log every attempt to reach a server that is down; the roles log the outage themselves. Critical
    records pass, and so do tracebacks of Faust: it writes one when a service ends.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._passed_s: dict[tuple[str, int], float] = {}
        self._left_out: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        library = record.name.partition(".")[0]
        if library not in _REPEATING or not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        if library in _OF_SERVICES and record.exc_info:
            return True
        key, now_s = (library, record.levelno), self._now_s()
        if now_s - self._passed_s.get(key, float("-inf")) < _PASS_EVERY_S:
            self._left_out[key] += 1
            return False
        self._passed_s[key] = now_s
        left_out = self._left_out.pop(key, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} more of {library} since its last line)"
            record.args = ()
        return True


_LIBRARY_REPEATS: Final = LibraryRepeats()
"""One filter for the process, because Faust makes a second handler."""


def log_handler(log_format: LogFormat) -> logging.Handler:
    """Return a handler that writes to stderr, as text for people or as JSON lines, with secrets masked."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(
            serializer=lambda event, **_: orjson.dumps(event).decode()
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_LIBRARY_REPEATS)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Send structlog and the standard library's log to stderr.

    Every event has `level`, `logger` and a UTC `timestamp`; secrets are masked. Calling it again replaces
    the set-up.
    """
    logging.basicConfig(level=level.upper(), handlers=[log_handler(log_format)], force=True)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
