"""The document that the page keeps for a person, as a schema: lists, saved screens, mutes, quiet hours, columns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from app.candles.symbols import SYMBOL_RULE, is_symbol

DOCUMENT_MAX_BYTES: Final = 48 * 1024
_NAME_MAX: Final = 60
_EXPRESSION_MAX: Final = 2_000


def _symbol(text: str) -> str:
    if not is_symbol(text):
        raise ValueError(f"a symbol has {SYMBOL_RULE}")
    return text


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Name = Annotated[str, Field(min_length=1, max_length=_NAME_MAX)]
Expression = Annotated[str, Field(max_length=_EXPRESSION_MAX)]
Symbol = Annotated[str, AfterValidator(_symbol)]
Time = Annotated[
    str,
    Field(pattern=r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"),
    AfterValidator(_time),
]
TimeOfDay = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Column = Annotated[str, Field(pattern="^[a-z0-9_.]{1,50}:[a-z0-9]{1,5}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Watchlist(_Part):
    name: Name
    symbols: Annotated[list[Symbol], Field(max_length=2_000)]


class SavedScreen(_Part):
    """where, sort: expressions as a person left them, not checked: the language may change."""

    name: Name
    where: Expression
    sort: Expression


class Mute(_Part):
    """name: of a symbol or a rule. until: None if the mute lasts until the person ends it."""

    kind: Literal["symbol", "rule"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    until: Time | None


class QuietHours(_Part):
    """In the time of the machine that shows the page; an end before the start is on the next day."""

    enabled: bool
    start: TimeOfDay
    end: TimeOfDay


class PersonalDocument(_Part):
    """A missing field is one that the person never chose."""

    watchlists: Annotated[list[Watchlist], Field(max_length=50)] = []
    screens: Annotated[list[SavedScreen], Field(max_length=100)] = []
    mutes: Annotated[list[Mute], Field(max_length=500)] = []
    quiet_hours: QuietHours = QuietHours(enabled=False, start="22:00", end="07:00")
    columns: Annotated[list[Column], Field(max_length=200)] = []


def checked_document(value: dict[str, object]) -> bytes:
    """Return the document as JSON. Raises ValueError that says which field is wrong, and why."""
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"document: {error}") from None
    if len(text) > DOCUMENT_MAX_BYTES:
        raise ValueError(f"document: {len(text):,} bytes, the limit is {DOCUMENT_MAX_BYTES:,}")
    try:
        PersonalDocument.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
        raise ValueError(f"document.{place[:100]}: {first['msg']}") from None
    return text


def readable_document(value: object) -> dict[str, object]:
    """Return a stored document; an empty one for a row that something else wrote."""
    try:
        if isinstance(value, dict):
            checked_document(value)
            return value
    except ValueError:
        pass
    return {}
