"""Every error the screener raises on purpose.

    ScreenerError
    ├── SettingsError          the environment asks for something impossible (all faults listed at once)
    ├── ServerError            a server we start or talk to
    │   ├── ServerMissing      its program is not installed
    │   ├── PortTaken          another program listens on its port
    │   ├── ServerUnreachable  it does not answer at its URL
    │   └── ServerDied         it ended while in use
    ├── ExchangeError          the exchange does not do what we request
    │   ├── ExchangeUnreachable  it does not answer, or breaks its protocol
    │   ├── ExchangeLimited    we exceeded its rate limit; retried when it allows
    │   ├── ExchangeBlocked    it does not serve this address, country or network
    │   ├── ClockDisagrees     its clock and this machine's are too far apart
    │   └── ExchangeRefused    it rejects the request
    ├── SchemaTooNew           the database was migrated by a newer screener
    ├── SchemaTooOld           the database lacks tables of this screener
    ├── BadInput               an invalid message; it goes to the dead letters
    │   └── BadFrame           not a valid frame
    ├── RuleError              a rule or expression that cannot be compiled (with position)
    ├── BadWebhookTarget       a URL, format or filter that cannot be a webhook target
    ├── NoSuchWebhook          no target or delivery of this id, or not the caller's
    ├── TokenRefused           a token that identifies no user
    ├── BackupUnusable         a backup that is damaged, of another format, or cannot be made there
    └── RestoreRefused         a restore would replace existing data, or is of another place or version
    Interrupted                a signal asked a command to end, and it has ended

The message says what happened, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class ScreenerError(Exception):
    """Root of the tree. `retryable`: whether retrying can help."""

    retryable: ClassVar[bool] = False


class SettingsError(ScreenerError):
    pass


class ServerError(ScreenerError):
    pass


class ServerMissing(ServerError):
    pass


class PortTaken(ServerError):
    pass


class ServerUnreachable(ServerError):
    retryable = True


class ServerDied(ServerError):
    retryable = True


class ExchangeError(ScreenerError):
    pass


class ExchangeUnreachable(ExchangeError):
    retryable = True


class ExchangeLimited(ExchangeError):
    retryable = True


class ExchangeRefused(ExchangeError):
    pass


class ExchangeBlocked(ExchangeError):
    pass


class ClockDisagrees(ExchangeError):
    retryable = True


class SchemaTooNew(ScreenerError):
    pass


class SchemaTooOld(ScreenerError):
    pass


class BackupUnusable(ScreenerError):
    pass


class RestoreRefused(ScreenerError):
    """A restore would replace existing data, or the backup is of another namespace or a newer schema."""


class Interrupted(Exception):
    """No fault, so outside of the tree. `status` is the exit status by which shells know the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.status = 128 + number


class BadInput(ScreenerError):
    """Carries its own `reason`, one of the words in `app.candles.validity.Reason`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadFrame(BadInput):
    pass


class RuleError(ScreenerError):
    """`position` is the 0-based offset of the fault in the expression's text."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class BadWebhookTarget(ScreenerError):
    """Its message is for the target's author and never repeats the URL, which may hold secrets."""


class TokenRefused(ScreenerError):
    """`code` is one of token_invalid, token_expired, keys_unavailable; the message is fit for the caller."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoSuchWebhook(ScreenerError):
    pass
