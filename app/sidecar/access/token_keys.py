"""The keys that tokens are checked with: one secret, or the public keys that a fixed URL publishes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import aiohttp
import jwt
import orjson
import structlog

from app.clock import Clock
from app.errors import TokenRefused

KEY_TYPES: Final = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""Algorithm -> the only type of key (`kty`) that serves it."""
_RSA_MIN_BITS: Final = 2048
_MOST_KEYS: Final = 100
_KEY_SET_MAX_BYTES: Final = 256 * 1024
_FETCH_TIMEOUT_S: Final = 10.0

REFRESH_MS: Final = 300_000
"""A key set older than this is loaded again; the old one is used meanwhile."""
RETRY_MS: Final = 30_000
"""Minimum time between two loads, which limits the loads that unknown `kid`s cause."""
OLDEST_MS: Final = 86_400_000
"""A key set that could not be loaded again for this long is not trusted any more."""

log = structlog.get_logger("sidecar.tokens")

Fetch = Callable[[], Awaitable[bytes]]
"""The key set as JSON. Raises aiohttp.ClientError, OSError or TimeoutError."""


class Keys(Protocol):
    async def prepare(self, kid: object) -> None:
        """Prepare the keys that `of` needs, as far as possible; never raises."""
        ...

    def of(self, kid: object) -> Any:
        """Return the key in the form that PyJWT needs. Raises TokenRefused."""
        ...


class SecretKey:
    """The same key for every token and every `kid`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def prepare(self, kid: object) -> None:
        """Do nothing: the key is always ready."""

    def of(self, kid: object) -> bytes:
        return self._secret


class PublishedKeys:
    """The usable keys of a JWKS (RFC 7517). A token's own hints about its key are ignored."""

    def __init__(self, fetch: Fetch, algorithm: str, clock: Clock) -> None:
        self._fetch = fetch
        self._algorithm = algorithm
        self._clock = clock
        self._keys: Mapping[str, Any] = {}
        self._loaded_ms: int | None = None
        self._tried_ms: int | None = None
        self._loading: asyncio.Task[None] | None = None

    async def prepare(self, kid: object) -> None:
        """Load the set when it is old, and wait for it when `kid` is not in it."""
        now_ms = self._clock.now_ms()
        old = self._loaded_ms is None or now_ms - self._loaded_ms >= REFRESH_MS
        unknown = kid not in self._keys if isinstance(kid, str) else False
        may_load = self._tried_ms is None or now_ms - self._tried_ms >= RETRY_MS
        if (old or unknown) and may_load and self._loading is None:
            self._tried_ms = now_ms
            self._loading = asyncio.create_task(self._load(), name="load token keys")
        if unknown and self._loading is not None:
            await asyncio.shield(self._loading)

    def of(self, kid: object) -> Any:
        if self._loaded_ms is None or self._clock.now_ms() - self._loaded_ms > OLDEST_MS:
            raise TokenRefused("keys_unavailable", "the token keys cannot be loaded now")
        if not isinstance(kid, str) or kid not in self._keys:
            raise TokenRefused("token_invalid", "the token's key is unknown")
        return self._keys[kid]

    async def _load(self) -> None:
        try:
            found = usable_keys(await self._fetch(), self._algorithm)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("token_keys_unavailable", fault=repr(error), known=len(self._keys))
        else:
            self._keys, self._loaded_ms = found, self._clock.now_ms()
            log.info("token_keys_loaded", usable=len(found))
        finally:
            self._loading = None


def usable_keys(text: bytes, algorithm: str) -> dict[str, Any]:
    """Return kid -> key for the usable keys of `algorithm`. Raises ValueError if there is no such key."""
    document = orjson.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise ValueError("not a key set")
    found = {}
    for entry in entries:
        if isinstance(entry, dict) and _is_meant_for(entry, algorithm):
            key = _parsed(entry, algorithm)
            if key is not None:
                found[entry["kid"]] = key
    if not found:
        raise ValueError(f"the key set has no key for {algorithm}")
    return found


def _is_meant_for(entry: Mapping[str, Any], algorithm: str) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        isinstance(entry.get("kid"), str)
        and entry.get("kty") == KEY_TYPES[algorithm]
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _parsed(entry: Mapping[str, Any], algorithm: str) -> Any:
    """Return the key; None for an unreadable or weak one."""
    public = {name: value for name, value in entry.items() if name != "d"}
    try:
        key = jwt.PyJWK(public, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        log.warning("token_key_unusable", kid=entry["kid"], fault=repr(error))
        return None
    return None if algorithm[:2] in ("RS", "PS") and key.key_size < _RSA_MIN_BITS else key


def https_fetch(url: str) -> Fetch:
    """Return a function that fetches `url` on each call, without redirects, and limited in time and size."""
    context = ssl.create_default_context()

    async def fetch() -> bytes:
        timeout = aiohttp.ClientTimeout(total=_FETCH_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False, ssl=context) as response,
        ):
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            text = bytearray()
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > _KEY_SET_MAX_BYTES:
                    raise ValueError("the answer is too large for a key set")
            return bytes(text)

    return fetch
