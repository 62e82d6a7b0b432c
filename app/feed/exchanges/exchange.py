"""The differences between exchanges, behind one small interface: pure translation, no I/O.

A venue turns the feed's needs into requests and stream URLs, and the exchange's answers into candles and
tickers. Symbols are canonical everywhere outside of it: base asset and quote asset in capitals (`BTCUSDT`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from app.candles.batch import CandleBatch
from app.errors import ExchangeError
from app.wire.tickers import Ticker


@dataclass(frozen=True, slots=True)
class Request:
    """A GET below the REST base URL. weight: its share of the exchange's limit per minute."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1


class Get(Protocol):
    """Performs a request and gives the decoded JSON. Raises ExchangeError."""

    async def __call__(self, request: Request) -> Any: ...


@dataclass(frozen=True, slots=True)
class Listing:
    """A perpetual contract in the quote asset that is trading. onboard_ms: UTC, when trading began, 0 if unknown.
    tradifi: on a share, a commodity or another market that has closing hours."""

    symbol: str
    onboard_ms: int = 0
    tradifi: bool = False


class LeftOut(StrEnum):
    """Reason why a listed contract is not followed: the label of the metric."""

    DATED = "dated"
    """It ends on a known day, or is of another kind that is not a perpetual."""
    OTHER_QUOTE = "other_quote"
    NOT_TRADING = "not_trading"
    TRADIFI = "tradifi"
    BAD_SYMBOL = "bad_symbol"
    """No candle of it would be valid."""
    UNREADABLE = "unreadable"
    """The exchange's description of it breaks the protocol."""
    SMALLER = "smaller"
    """Others have more volume, and there is no room."""


@dataclass(frozen=True, slots=True)
class Listings:
    """The contracts of an exchange. weight_limit: the weight that all requests of a minute may cost, None if unknown.
    left_out: number of contracts that do not qualify, by reason."""

    listings: tuple[Listing, ...]
    weight_limit: int | None = None
    left_out: Mapping[LeftOut, int] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """The content of frames of a socket, in their order.

    unreadable: frames that are no message of this exchange, as they came.
    """

    candles: CandleBatch | None = None
    tickers: list[Ticker] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)


class Venue(ABC):
    """One exchange. The class attributes are its limits."""

    name: ClassVar[str]
    rest_url: ClassVar[str]
    ws_url: ClassVar[str]
    streams_per_connection: ClassVar[int]
    page_bars: ClassVar[int]
    """Bars that one request for klines asks for: the number that costs least per bar."""
    intervals: ClassVar[Mapping[str, str]]
    """Our timeframe -> the exchange's word for it, where it has that interval."""
    ticker_poll_s: ClassVar[float | None] = None
    """How often tickers are requested over REST; None where a stream brings them."""
    keepalive_s: ClassVar[float | None] = None
    """How often a socket must send `keepalive`; None where the exchange pings."""
    keepalive: ClassVar[str] = ""
    keepalive_answer: ClassVar[bytes] = b""
    """Text of its answer, which is no sign that streams are alive; empty without an answer."""

    @abstractmethod
    async def listings(self, get: Get) -> Listings: ...

    @abstractmethod
    async def tickers(self, get: Get) -> list[Ticker]:
        """Return the 24 h tickers of all symbols of the market."""

    @abstractmethod
    async def server_time_ms(self, get: Get) -> int:
        """Return the exchange's clock, UTC ms."""

    @abstractmethod
    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        """Return the earliest `page_bars` bars with first_ms <= open time <= last_ms, oldest first, as closed
        candles; None if the exchange has none. Ask for closed bars only: forming bars come out as closed too."""

    @abstractmethod
    def stream_url(self, base: str, symbols: Sequence[str]) -> str: ...

    @abstractmethod
    def ticker_stream_url(self, base: str) -> str | None:
        """Return the stream of all tickers, None without one."""

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Return messages to send when a socket is open, where the URL does not say it all."""
        return []

    @abstractmethod
    def read(self, frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
        """Read frames. Never raises: unreadable frames are returned."""

    def refusal(self, document: Any) -> ExchangeError | None:
        """Return the fault in an answer with status 200, where the exchange reports them; None for any other answer."""
        return None

    @abstractmethod
    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        """Return the request weight used in this minute, by the headers of an answer."""
