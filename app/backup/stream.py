"""The candle stream, by JetStream's own snapshots: every message with its number and time, and every consumer with
what it has acknowledged.

The protocol is the one of `nats stream backup` and `restore`: chunks of an archive, each confirmed, an empty one at
the end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import NotFoundError

from app.errors import BackupUnusable, RestoreRefused, ServerError, ServerUnreachable
from app.ingress.pull import connect, stream_name
from app.settings import Settings

SNAPSHOT: Final = "stream.tar.s2"
_CHUNK_BYTES: Final = 128 * 1024
_API_TIMEOUT_S: Final = 10.0
_CHUNK_TIMEOUT_S: Final = 60.0


async def dump(settings: Settings, directory: Path) -> dict[str, Any] | None:
    """Writes the snapshot to `directory`; gives the stream's configuration and state, None if there is no stream.

    Raises ServerUnreachable if NATS does not answer, BackupUnusable if the snapshot breaks off.
    """
    client = await connect(settings, "backup")
    try:
        return await _dump(client, settings, directory)
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()


async def _dump(client: Client, settings: Settings, directory: Path) -> dict[str, Any] | None:
    name = stream_name(settings)
    try:
        await client.jetstream(timeout=_API_TIMEOUT_S).stream_info(name)
    except NotFoundError:
        return None
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=chunks.put)
    request = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": _CHUNK_BYTES}
    answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{name}", request)
    with (directory / SNAPSHOT).open("wb") as file:
        while True:
            chunk = await asyncio.wait_for(chunks.get(), _CHUNK_TIMEOUT_S)
            if not chunk.data:
                _check_end(chunk)
                break
            file.write(chunk.data)
            if chunk.reply:
                await client.publish(chunk.reply)
    await subscription.unsubscribe()
    return {"config": answer["config"], "state": answer["state"]}


def _check_end(chunk: Msg) -> None:
    """The last, empty chunk says in a header how it ended; without one, well."""
    status = (chunk.headers or {}).get("Status", "")
    if status and status != "204":
        description = (chunk.headers or {}).get("Description", "")
        raise BackupUnusable(f"NATS ended the snapshot of the stream: {status} {description}".strip())


async def refuse_if_there(settings: Settings) -> None:
    """Raises RestoreRefused if the stream exists and has messages."""
    client = await connect(settings, "restore")
    try:
        state = (await client.jetstream(timeout=_API_TIMEOUT_S).stream_info(stream_name(settings))).state
    except NotFoundError:
        return
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()
    if state.messages:
        raise RestoreRefused(
            f"the stream {stream_name(settings)} has {state.messages:,} messages: restore where it is not, or give "
            "--overwrite to replace it"
        )


async def restore(settings: Settings, directory: Path, stream: dict[str, Any]) -> None:
    """Deletes the stream if it is there, and brings it back as it was, consumers and numbers of messages included."""
    client = await connect(settings, "restore")
    try:
        name = stream_name(settings)
        if stream["config"]["name"] != name:
            raise RestoreRefused(
                f"the backup holds the stream {stream['config']['name']}, here it is called {name}: set "
                "SCREENER_NAMESPACE to that of the backup"
            )
        with suppress(NotFoundError):
            await client.jetstream(timeout=_API_TIMEOUT_S).delete_stream(name)
        answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{name}", stream)
        with (directory / SNAPSHOT).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                await client.request(answer["deliver_subject"], chunk, timeout=_CHUNK_TIMEOUT_S)
        end = await client.request(answer["deliver_subject"], b"", timeout=_CHUNK_TIMEOUT_S)
        _refused(orjson.loads(end.data))
    except (Error, OSError, TimeoutError) as error:
        raise _broken_off(error) from error
    finally:
        await client.close()


async def _ask(client: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = await client.request(subject, orjson.dumps(request), timeout=_API_TIMEOUT_S)
    return _refused(orjson.loads(answer.data))


def _refused(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise ServerError(f"NATS refuses: {answer['error']['description']} (code {answer['error']['code']})")
    return answer


def _broken_off(error: BaseException) -> ServerUnreachable:
    return ServerUnreachable(f"NATS broke off: {error!r}; see its log, and SCREENER_NATS_URL")
