"""The faults that the simulated exchange has on command, as JSON objects and as entries of a schedule."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_Seconds = Annotated[float, Field(ge=0, le=86_400)]
_Share = Annotated[float, Field(gt=0, le=1)]


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Lasting(_Fault):
    for_s: _Seconds = 30.0
    """By the wall clock."""


class _OfConnections(_Fault):
    share: _Share = 1.0
    """Of the open WebSocket connections, chosen by chance; at least one if there is any."""


class _OfMinutes(_Fault):
    minutes: int = Field(default=1, ge=1, le=1440)
    """Beginning with the minute that forms now (gap) or closes next (the others)."""
    share: _Share = 1.0
    """Of the contracts, chosen by chance; at least one."""
    symbols: tuple[str, ...] = ()
    """These contracts instead of a share."""


class Drop(_OfConnections):
    """Connections are reset without a word."""

    kind: Literal["drop"]


class DayCut(_OfConnections):
    """Connections are closed as after 24 hours."""

    kind: Literal["day_cut"]


class Stall(_OfConnections, _Lasting):
    """Connections stay open and silent: no candle, no ping, no pong. Messages meanwhile are lost."""

    kind: Literal["stall"]


class Garbage(_OfConnections):
    """Each connection is sent texts that are no message of the protocol."""

    kind: Literal["garbage"]
    frames: int = Field(default=1, ge=1, le=100)
    utf8: bool = True
    """False: the texts are not UTF-8, so that a client has to close the connection (RFC 6455, 8.1)."""


class RefuseConnections(_Lasting):
    """New WebSocket connections are refused with 503."""

    kind: Literal["refuse_connections"]


class TooManyRequests(_Lasting):
    """Every REST request gets 429 with Retry-After, or 418 as for a banned address."""

    kind: Literal["too_many_requests"]
    status: Literal[429, 418] = 429


class ServerErrors(_Lasting):
    """REST requests fail."""

    kind: Literal["server_errors"]
    status: Literal[500, 502, 503, 504] = 503
    share: _Share = 1.0
    """Of the requests, by chance."""


class SlowRest(_Lasting):
    """Every REST answer is delayed."""

    kind: Literal["slow_rest"]
    delay_s: _Seconds = 2.0


class WithheldMinutes(_OfMinutes):
    """Candles of these minutes are not sent over WebSocket; REST has them."""

    kind: Literal["gap"]
    rest: bool = True
    """False: REST does not have them either, but bars of longer intervals include them."""


class Late(_OfMinutes):
    """Closed candles are sent later than they should."""

    kind: Literal["late"]
    delay_s: _Seconds = 5.0


class Duplicate(_OfMinutes):
    """Closed candles are sent twice."""

    kind: Literal["duplicate"]


class OutOfOrder(_OfMinutes):
    """Closed candles come after the first of the next minute, followed by a stale forming one."""

    kind: Literal["out_of_order"]


class Correction(_OfMinutes):
    """A closed candle is sent with a wrong close and volume, and corrected later; REST has the right one."""

    kind: Literal["correction"]
    after_s: _Seconds = 2.0


class NewContracts(_Fault):
    """New contracts are listed and traded from the next minute on."""

    kind: Literal["listing"]
    count: int = Field(default=1, ge=1, le=100)


class Delisting(_Fault):
    """Contracts stop being traded with the minute that forms, and are settled."""

    kind: Literal["delisting"]
    symbols: tuple[str, ...] = ()
    count: int = Field(default=1, ge=1, le=100)
    """Number of contracts, the last ones listed, if no symbols are given."""


Fault = Annotated[
    Drop | DayCut | Stall | Garbage | RefuseConnections | TooManyRequests | ServerErrors | SlowRest
    | WithheldMinutes | Late | Duplicate | OutOfOrder | Correction | NewContracts | Delisting,
    Field(discriminator="kind"),
]  # fmt: skip
FAULT: Final[TypeAdapter[Fault]] = TypeAdapter(Fault)
KINDS: Final = (
    "drop", "day_cut", "stall", "garbage", "refuse_connections", "too_many_requests", "server_errors",
    "slow_rest", "gap", "late", "duplicate", "out_of_order", "correction", "listing", "delisting",
)  # fmt: skip


class ScheduledFault(_Fault):
    """An entry of a schedule: the fault comes at `at_s` after the start, and again every `every_s`."""

    at_s: _Seconds
    every_s: float | None = Field(default=None, ge=0.1, le=86_400)
    times: int | None = Field(default=None, ge=1)
    """Number of times; None with `every_s`: for ever."""
    fault: Fault
