"""Backup of our Redis keys: cooldowns, so that no alert repeats after a restore, and 24 h tickers.

Short-lived keys, such as reports of barriers and rate limits, are left out.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import BackupUnusable, ServerUnreachable
from app.settings.access import Namespace, RedisAccess
from app.wire.barrier import connect_barriers

FILE: Final = "keys.jsonl"
KEPT: Final = ("cooldown:*", "tickers")
"""Patterns of keys, within the namespace."""
_KEYS_PER_CALL: Final = 500


async def dump(access: RedisAccess, directory: Path) -> int:
    """Write one line per key: name, when it expires (UTC ms, null: never) and Redis' own dump of its value. Return the
    number of keys. Raises ServerUnreachable if Redis does not answer."""
    redis: Redis = connect_barriers(access.url)
    count = 0
    try:
        with (directory / FILE).open("wb") as file:
            async for name in _names(redis, access.namespace):
                pipeline = redis.pipeline(transaction=True)
                pipeline.dump(name)
                pipeline.pexpiretime(name)
                value, expires_ts_ms = await pipeline.execute()
                if value is None:
                    continue  # it expired meanwhile
                line = {
                    "key": name,
                    "expires_ts_ms": expires_ts_ms if expires_ts_ms > 0 else None,
                    "dump": base64.b64encode(value).decode(),
                }
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
    except (RedisError, OSError, TimeoutError) as error:
        raise _away(error) from error
    finally:
        await redis.aclose()
    return count


async def restore(access: RedisAccess, directory: Path) -> None:
    """Restore every key, replacing existing keys of the same name; expired keys are left out."""
    redis: Redis = connect_barriers(access.url)
    try:
        with (directory / FILE).open("rb") as file:
            lines = file.readlines()
        for start in range(0, len(lines), _KEYS_PER_CALL):
            pipeline = redis.pipeline(transaction=False)
            for line in lines[start : start + _KEYS_PER_CALL]:
                _restore_key(pipeline, line)
            await pipeline.execute()
    except (RedisError, TimeoutError) as error:
        raise _away(error) from error
    finally:
        await redis.aclose()


def _restore_key(pipeline: Any, line: bytes) -> None:
    try:
        found = orjson.loads(line)
        value = base64.b64decode(found["dump"])
        # Redis deletes expired keys at once
        pipeline.restore(found["key"], found["expires_ts_ms"] or 0, value, replace=True, absttl=True)
    except (orjson.JSONDecodeError, KeyError, ValueError) as error:
        raise BackupUnusable(f"{FILE} is damaged: {error}") from error


async def _names(redis: Redis, namespace: Namespace) -> AsyncIterator[str]:
    """Yield each name once; a scan may return one twice."""
    seen: set[bytes] = set()
    for pattern in KEPT:
        async for name in redis.scan_iter(namespace.name(pattern), count=_KEYS_PER_CALL):
            if name not in seen:
                seen.add(name)
                yield name.decode()


def _away(error: BaseException) -> ServerUnreachable:
    return ServerUnreachable(
        f"Redis does not answer: {error!r}; set SCREENER_REDIS_URL to redis://host:port/database"
    )
