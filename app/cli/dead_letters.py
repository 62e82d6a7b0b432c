"""`screener dead-letters`: unusable records, with their reason and origin."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import click
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.cli.output import printable
from app.cli.servers import settings_here
from app.errors import Interrupted, ServerUnreachable, SettingsError
from app.process.interrupts import StopEvent, stop_signals, unless_stopped
from app.settings.access import KafkaAccess
from app.wire.kafka import client_options
from app.wire.topics import Topics

_SHOWN_CHARS: Final = 160
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 8 * 1024 * 1024


def dead_letters(reason: str | None, follow: bool, limit: int, as_json: bool) -> None:
    settings = settings_here()
    if settings.kafka_url is None:
        raise SettingsError("no Kafka to read from: set SCREENER_KAFKA_URL, or run `screener up` here first")
    kafka = settings.kafka()
    try:
        asyncio.run(_show(kafka, reason, follow, limit, as_json))
    except KafkaError as error:
        raise ServerUnreachable(f"Kafka does not answer at {kafka.servers}: {error}") from error
    except Interrupted:
        if not follow:
            raise


async def _show(kafka: KafkaAccess, reason: str | None, follow: bool, limit: int, as_json: bool) -> None:
    with stop_signals() as stop:
        await unless_stopped(stop, _show_until(stop, kafka, reason, follow, limit, as_json))


async def _show_until(
    stop: StopEvent, kafka: KafkaAccess, reason: str | None, follow: bool, limit: int, as_json: bool
) -> None:
    consumer = AIOKafkaConsumer(
        **client_options(kafka), enable_auto_commit=False, max_partition_fetch_bytes=_FETCH_BYTES
    )
    letters = TopicPartition(Topics.of(kafka.namespace).dead_letters, 0)
    await consumer.start()
    try:
        if letters.topic not in await consumer.topics():
            raise SettingsError(
                f"there is no topic {letters.topic}: no screener of the namespace {kafka.namespace.prefix!r} ran there"
            )
        consumer.assign([letters])
        end = (await consumer.end_offsets([letters]))[letters]
        begin = (await consumer.beginning_offsets([letters]))[letters]
        consumer.seek(letters, begin if reason else max(begin, end - limit))
        newest: deque[Mapping[str, Any]] = deque(maxlen=limit)
        async for letter in _letters(consumer, letters, end, stop):
            if _is_wanted(letter, reason):
                newest.append(letter if as_json else _short(letter))
        for letter in newest:
            _print(letter, as_json)
        if not newest and not as_json:
            click.echo("no dead letters" + (f" with reason {reason}" if reason else ""), err=True)
        if follow:
            async for letter in _letters(consumer, letters, None, stop):
                if _is_wanted(letter, reason):
                    _print(letter if as_json else _short(letter), as_json)
    finally:
        await consumer.stop()


async def _letters(
    consumer: AIOKafkaConsumer, letters: TopicPartition, until: int | None, stop: StopEvent
) -> AsyncIterator[Mapping[str, Any]]:
    """Read up to an offset, or until `stop`. A record that is no dead letter is shown unchanged."""
    while not stop.is_set() and (until is None or await consumer.position(letters) < until):
        for record in (await consumer.getmany(letters, timeout_ms=_POLL_MS)).get(letters, ()):
            if until is None or record.offset < until:
                yield _read(record.value or b"")


def _read(data: bytes) -> Mapping[str, Any]:
    try:
        letter = orjson.loads(data)
    except orjson.JSONDecodeError:
        letter = None
    return letter if isinstance(letter, dict) else {"reason": "unreadable", "message": repr(data[:200])}


def _is_wanted(letter: Mapping[str, Any], reason: str | None) -> bool:
    reasons = letter.get("reasons")
    return (
        reason is None or reason == letter.get("reason") or (isinstance(reasons, dict) and reason in reasons)
    )


def _short(letter: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the letter without the long fields: an original may have a megabyte."""
    return {**letter, "original": _beginning(letter.get("original"))}


def _beginning(original: object) -> str:
    """Return the original as one line of text, shortened, with escapes for unprintable text."""
    try:
        data = base64.b64decode(str(original or "")[: 4 * _SHOWN_CHARS])
    except ValueError:
        return ""
    text = printable(data.decode("utf-8", "backslashreplace"))
    return text[:_SHOWN_CHARS] + ("…" if len(text) > _SHOWN_CHARS else "")


def _print(letter: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(letter).decode())
        return
    words = (letter.get(name, "-") for name in ("timestamp", "stage", "reason", "source"))
    click.echo("  ".join(printable(str(word)) for word in words))
    # a message about several faults has a line for each
    for line in str(letter.get("message", "")).split("\n"):
        click.echo(f"    {printable(line)}")
    if letter["original"]:
        size = letter.get("original_bytes")
        click.echo(f"    {letter['original']}" + (f" ({size:,} bytes)" if isinstance(size, int) else ""))
