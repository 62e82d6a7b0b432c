"""Request weight per client address and minute of the wall clock, with refusals and bans as on the exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.candles.batch import MINUTE_MS
from app.clock import Clock

_REFUSALS_BEFORE_BAN: Final = 20
"""Requests sent in spite of 429, within a minute."""
_BAN_MS: Final = 2 * MINUTE_MS
_MOST_ADDRESSES: Final = 10_000


@dataclass(slots=True)
class _Account:
    minute: int
    used: int = 0
    refused: int = 0
    banned_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    retry_after_s: int


class Weights:
    """`per_minute`: the weight an address may use."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._clock = clock
        self.per_minute = per_minute
        self._accounts: dict[str, _Account] = {}

    def spend(self, address: str, weight: int) -> tuple[int, Refusal | None]:
        """Count a request. Return (weight used in this minute, why the request is refused or None)."""
        now_ms = self._clock.now_ms()
        minute = now_ms // MINUTE_MS
        account = self._account(address, minute)
        if account.banned_until_ms > now_ms:
            return account.used, Refusal(418, -(-(account.banned_until_ms - now_ms) // 1000))
        account.used += weight
        if account.used <= self.per_minute:
            return account.used, None
        account.refused += 1
        if account.refused > _REFUSALS_BEFORE_BAN:
            account.banned_until_ms = now_ms + _BAN_MS
            return account.used, Refusal(418, _BAN_MS // 1000)
        return account.used, Refusal(429, max(1, -(-(MINUTE_MS - now_ms % MINUTE_MS) // 1000)))

    def used(self) -> dict[str, int]:
        return {address: account.used for address, account in self._accounts.items()}

    def _account(self, address: str, minute: int) -> _Account:
        account = self._accounts.get(address)
        if account is None:
            if len(self._accounts) >= _MOST_ADDRESSES:
                self._accounts.clear()
            account = self._accounts[address] = _Account(minute)
        if account.minute != minute:
            account.minute, account.used, account.refused = minute, 0, 0
        return account
