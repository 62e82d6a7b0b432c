"""What differs between exchanges, behind one small interface: pure translation, no I/O.

A venue turns what the feed wants into requests and stream URLs, and what the exchange says into candles and
tickers. Symbols are canonical everywhere outside of it: base asset and quote asset in capitals (`BTCUSDT`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from app.candles.batch import CandleBatch
from app.tickers import Ticker


@dataclass(frozen=True, slots=True)
class Request:
    """A GET below the REST base URL. weight: what it costs of the exchange's limit per minute."""

    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1


class Get(Protocol):
    """Performs a request and gives the decoded JSON. Raises ExchangeError."""

    async def __call__(self, request: Request) -> Any: ...


@dataclass(frozen=True, slots=True)
class Listing:
    """A perpetual contract in the quote asset that is trading. onboard_ms: UTC, when trading began, 0 if unknown."""

    symbol: str
    onboard_ms: int = 0


@dataclass(frozen=True, slots=True)
class Listings:
    """weight_limit: what all requests of a minute may cost, None if the exchange does not say."""

    listings: tuple[Listing, ...]
    weight_limit: int | None = None


@dataclass(slots=True)
class Reading:
    """What frames of a socket held, in their order.

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
    """How often tickers are asked for over REST; None where a stream brings them."""
    keepalive_s: ClassVar[float | None] = None
    """How often a socket must send `keepalive`; None where the exchange does the asking."""
    keepalive: ClassVar[str] = ""
    keepalive_answer: ClassVar[bytes] = b""
    """What stands in the answer to it, which is no sign that streams are alive; empty where there is none."""

    @abstractmethod
    async def listings(self, get: Get) -> Listings: ...

    @abstractmethod
    async def tickers(self, get: Get) -> list[Ticker]:
        """24 h tickers of all symbols of the market."""

    @abstractmethod
    async def server_time_ms(self, get: Get) -> int:
        """The exchange's clock, UTC ms."""

    @abstractmethod
    async def klines(
        self, get: Get, symbol: str, timeframe: str, first_ms: int, last_ms: int
    ) -> CandleBatch | None:
        """The earliest `page_bars` bars with first_ms <= open time <= last_ms, oldest first, as closed candles;
        None if the exchange has none. Ask for closed bars only: what still forms comes out as closed too."""

    @abstractmethod
    def stream_url(self, base: str, symbols: Sequence[str]) -> str: ...

    @abstractmethod
    def ticker_stream_url(self, base: str) -> str | None:
        """The stream of all tickers, None where there is none."""

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send when a socket is open, where the URL does not say it all."""
        return []

    @abstractmethod
    def read(self, frames: Sequence[bytes], ingest_ts_ms: int) -> Reading:
        """Never raises: what cannot be read is handed back."""

    @abstractmethod
    def used_weight(self, headers: Mapping[str, str]) -> int | None:
        """What the requests of this minute have cost so far, by the headers of an answer."""
