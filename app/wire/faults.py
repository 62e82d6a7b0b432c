"""Tells which faults time heals, and which are faults of the data that was sent.

A fault that time heals is retried. A fault of the data comes again however often the same data is sent: the sender of a
batch splits it, and sets aside the rejected part. Everything else (a missing table, a missing right, a mistake of ours)
is for a person: the process ends, and its supervisor starts it again, later and later.
"""

from __future__ import annotations

from typing import Final

import psycopg
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RebalanceInProgressError,
    RecordListTooLargeError,
    UnknownMemberIdError,
)
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.errors import ScreenerError

SERVER_ERRORS: Final = (KafkaError, NatsError, RedisError, psycopg.Error, OSError)
"""Errors of the servers' clients."""

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError, MaxPayloadError)
_KAFKA_HEALED: Final = (
    KafkaTimeoutError,
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""Retriable beside aiokafka's own list: a member removed from its group joins again."""

_CONNECTION, _LOGIN, _ROLLBACK, _RESOURCES, _OPERATOR, _SYSTEM = "08", "28", "40", "53", "57", "58"
_HEALED_CLASSES: Final = (_CONNECTION, _LOGIN, _ROLLBACK, _RESOURCES, _OPERATOR, _SYSTEM)
"""Classes of SQLSTATE. Logins too: passwords are replaced while roles run."""
_HEALED: Final = frozenset(
    {
        "25006",  # read-only: a standby, until it is promoted
        "25P03",  # a transaction was idle too long
        "25P04",  # a transaction took too long
        "55006",  # an object is in use
        "55P03",  # a lock was not available
    }
)
_NEVER_HEALED: Final = frozenset(
    {
        "40002",  # a constraint, found at the commit
        "53400",  # a limit in the server's configuration
    }
)
_OF_THE_DATA_CLASSES: Final = (
    "0A",  # a feature this server lacks, for example an update of a compressed chunk
    "21",  # a row where one was not expected
    "22",  # values
    "23",  # constraints
    "27", "38", "39",  # triggers and functions
    "44",  # WITH CHECK OPTION
    "54",  # limits of the program
    "55",  # the state of an object
    "P0",  # RAISE in a trigger
)  # fmt: skip
_OF_THE_DATA: Final = _NEVER_HEALED | {"XX000"}
"""XX000: PostgreSQL's and extensions' own checks. Damaged tables and indexes (XX001, XX002) are no row's fault."""


def time_heals(error: BaseException) -> bool:
    """Return whether the same call may succeed later: a server is down, starting, full, failing over, or slow this
    time."""
    if isinstance(error, ScreenerError):
        return error.retryable
    if is_of_the_data(error):
        return False
    if isinstance(error, psycopg.Error):
        return _postgres_heals(error)
    if isinstance(error, KafkaError):
        return error.retriable or isinstance(error, _KAFKA_HEALED)
    return isinstance(error, (RedisConnectionError, RedisTimeoutError, NatsError, OSError))


def is_of_the_data(error: BaseException) -> bool:
    """Return whether a server rejects the data it was sent, and would reject it again."""
    if isinstance(error, _TOO_LARGE):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError))
    return state in _OF_THE_DATA or (state[:2] in _OF_THE_DATA_CLASSES and state not in _HEALED)


def _postgres_heals(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state is None:
        # client side: a lost connection, or none free in time
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state in _HEALED or state[:2] in _HEALED_CLASSES
