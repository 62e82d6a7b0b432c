"""Signs of life of every process, sent over Redis to the sidecar, which shows the health of the whole.

Key `roles` in the namespace: a hash with a field per role and process, a JSON object that is written again every two
seconds. An orderly stop removes its sign; an old sign is of a process that died or stands still.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.clock import Clock
from app.process.health.backlog import OWN_WORK, Waiting
from app.process.tasks import to_its_end
from app.settings.access import Namespace, RedisAccess

_TELL_S: Final = 2.0
_TIMEOUT_S: Final = 1.0
STALE_S: Final = 12.0
"""A process that gave no sign for this long is dead, stopped, or has no Redis."""
_KEPT_S: Final = 24 * 3600
_FORGOTTEN_MS: Final = 15 * 60 * 1000
_LOOP_MS: Final = 120_000
_LOOP_STARTS: Final = 4
"""A role is restarting if this many of its processes began within two minutes, and all but the last gave no sign
since."""
_MOST_SIGNS: Final = 10_000

log = structlog.get_logger("health")


@dataclass(frozen=True, slots=True)
class Sign:
    """`at_ms`, `began_ms`: UTC, of the sign and of its process. work: its backlogs, by name of the work."""

    role: str
    process: str
    at_ms: int
    began_ms: int
    ready: bool
    work: Mapping[str, Waiting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleState:
    """`state`: fresh, not_ready, restarting (it keeps ending), stale, or silent (no sign was ever seen)."""

    state: str
    at_ms: int | None = None
    """UTC, of the newest sign."""
    began_ms: int | None = None
    """UTC, of the oldest process that is alive."""
    work: Mapping[str, Waiting] = field(default_factory=dict)
    """Of all its processes that are alive."""


class SignsOfLife:
    """The signs of life of one process, written until `run` is cancelled."""

    def __init__(self, access: RedisAccess, roles: Collection[str], clock: Clock) -> None:
        self._access = access
        self._key = access.name("roles")
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self._roles = tuple(roles)
        self._clock = clock
        self._began_ms = clock.now_ms()

    async def run(self, ready: Callable[[], bool]) -> None:
        """Run until cancelled, then delete the sign."""
        redis = Redis.from_url(
            self._access.url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        try:
            while True:
                # a cancellation in the middle of connecting would be taken for a fault of Redis
                await to_its_end(self._tell(redis, ready()))
                await asyncio.sleep(_TELL_S)
        finally:
            await to_its_end(self._take_back(redis))
            await redis.aclose()

    async def _tell(self, redis: Redis, ready: bool) -> None:
        sign = {
            "at_ms": self._clock.now_ms(),
            "began_ms": self._began_ms,
            "ready": ready,
            "work": {name: asdict(waiting) for name, waiting in OWN_WORK.found().items()},
        }
        try:
            for role in self._roles:
                await redis.hset(self._key, f"{role} {self._process}", orjson.dumps(sign).decode())
            await redis.expire(self._key, _KEPT_S)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("sign_not_told", error=repr(error))

    async def _take_back(self, redis: Redis) -> None:
        try:
            await redis.hdel(self._key, *(f"{role} {self._process}" for role in self._roles))
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("sign_not_told", error=repr(error))


async def read_signs(redis: Redis, namespace: Namespace, now_ms: int) -> list[Sign]:
    """Return the signs of all processes; remove unreadable and old signs. Raises the errors of Redis."""
    key, signs, gone = namespace.name("roles"), [], []
    for name, value in list((await redis.hgetall(key)).items())[:_MOST_SIGNS]:
        sign = _decoded(name, value)
        if sign is None:
            gone.append(name)
        else:
            signs.append(sign)
    newest = {role: max(one.at_ms for one in signs if one.role == role) for role in {s.role for s in signs}}
    # the newest of a role stays: it tells that there was one
    old = [one for one in signs if now_ms - one.at_ms > _FORGOTTEN_MS and one.at_ms < newest[one.role]]
    gone += [f"{one.role} {one.process}".encode() for one in old]
    if gone:
        await redis.hdel(key, *gone)
    return signs


def _decoded(name: bytes | str, value: bytes | str) -> Sign | None:
    """Return the sign; None for an invalid value."""
    try:
        text = name if isinstance(name, str) else name.decode()
        role, _, process = text.partition(" ")
        fields = orjson.loads(value)
        work = {str(name): _decoded_work(one) for name, one in dict(fields.get("work") or {}).items()}
        return Sign(role, process, int(fields["at_ms"]), int(fields["began_ms"]), bool(fields["ready"]), work)
    except (ValueError, KeyError, TypeError):
        return None


def _decoded_work(fields: Mapping[str, Any]) -> Waiting:
    times = (fields[name] for name in ("since_ms", "still_since_ms", "handled_ms"))
    since_ms, still_since_ms, handled_ms = (None if time_ms is None else int(time_ms) for time_ms in times)
    return Waiting(int(fields["count"]), since_ms, still_since_ms, handled_ms)


def role_states(signs: Collection[Sign], now_ms: int) -> Mapping[str, RoleState]:
    """Return role -> state, by the best of its processes; roles without any sign are left out."""
    by_role: dict[str, list[Sign]] = {}
    for sign in signs:
        by_role.setdefault(sign.role, []).append(sign)
    return {role: _state(found, now_ms) for role, found in by_role.items()}


def _state(signs: list[Sign], now_ms: int) -> RoleState:
    newest_ms = max(sign.at_ms for sign in signs)
    alive = [sign for sign in signs if now_ms - sign.at_ms <= STALE_S * 1000]
    # processes that began lately and gave no sign since are ends in a row; others may be replicas
    ended = [sign for sign in signs if sign not in alive or sign.at_ms < newest_ms - STALE_S * 1000]
    young = [sign for sign in ended if now_ms - sign.began_ms <= _LOOP_MS]
    if not alive:
        return RoleState("stale", newest_ms)
    if len(young) >= _LOOP_STARTS - 1:
        return RoleState("restarting", newest_ms)
    state = "fresh" if any(sign.ready for sign in alive) else "not_ready"
    return RoleState(state, newest_ms, min(sign.began_ms for sign in alive), _work_of(alive))


def _work_of(signs: Collection[Sign]) -> Mapping[str, Waiting]:
    names = {name for sign in signs for name in sign.work}
    return {
        name: Waiting.worst_of(sign.work[name] for sign in signs if name in sign.work)
        for name in sorted(names)
    }
