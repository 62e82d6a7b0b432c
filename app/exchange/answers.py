"""An answer that is not what the exchange's protocol says counts as none: it is asked again, and nothing else ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import ExchangeUnreachable
from app.exchange.venue import Venue

_UNFIT: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What reading it raises."""


@contextmanager
def reading_answer(venue: Venue, asked_for: str) -> Iterator[None]:
    """Raises ExchangeUnreachable where an answer to what was `asked_for` cannot be read."""
    try:
        yield
    except _UNFIT as error:
        raise ExchangeUnreachable(
            f"the exchange {venue.name}, asked for {asked_for}, answers with what is none: {error!r}"
        ) from error
