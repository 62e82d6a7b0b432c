"""Every error the screener raises on purpose.

    ScreenerError
    ├── SettingsError          the environment asks for something impossible (all faults listed at once)
    ├── ServerError            a server we start or talk to
    │   ├── ServerMissing      its program is not installed
    │   ├── PortTaken          something else listens on its port
    │   ├── ServerUnreachable  it does not answer at its URL
    │   └── ServerDied         it was running and is not any more
    ├── ExchangeError          the exchange does not do what we ask
    │   ├── ExchangeUnreachable  it does not answer, or not with what its protocol says
    │   ├── ExchangeLimited    we asked too much of it; asked again when it allows
    │   └── ExchangeRefused    it answers that it will not
    ├── SchemaTooNew           the database was migrated by a newer screener
    ├── SchemaTooOld           the database lacks tables of this screener
    ├── BadInput               a message that cannot be used; it goes to the dead letters
    │   ├── BadCandle          not a valid candle
    │   └── BadFrame           not a frame we can read
    ├── RuleError              a rule or expression that cannot be compiled (with position)
    ├── BadWebhookTarget       a URL, format or filter that cannot be a webhook target
    ├── NoSuchWebhook          no target or delivery of this id, or not the caller's
    ├── TokenRefused           a token that identifies nobody
    ├── BackupUnusable         a backup that is damaged, of another format, or cannot be made there
    └── RestoreRefused         a restore would replace what is there, or is of another place or version

`reason` is a closed set of words: it is the label of the metric that counts the error and the `reason`
field of a dead letter. `message` says what happened, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class ScreenerError(Exception):
    """Root of the tree. `reason` is the metric label, `retryable` whether trying again can help."""

    reason: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class SettingsError(ScreenerError):
    reason = "settings"


class ServerError(ScreenerError):
    reason = "server"


class ServerMissing(ServerError):
    reason = "server_missing"


class PortTaken(ServerError):
    reason = "port_taken"


class ServerUnreachable(ServerError):
    reason = "server_unreachable"
    retryable = True


class ServerDied(ServerError):
    reason = "server_died"
    retryable = True


class ExchangeError(ScreenerError):
    reason = "exchange"


class ExchangeUnreachable(ExchangeError):
    reason = "exchange_unreachable"
    retryable = True


class ExchangeLimited(ExchangeError):
    reason = "exchange_limited"
    retryable = True


class ExchangeRefused(ExchangeError):
    reason = "exchange_refused"


class SchemaTooNew(ScreenerError):
    reason = "schema_too_new"


class SchemaTooOld(ScreenerError):
    reason = "schema_too_old"


class BackupUnusable(ScreenerError):
    reason = "backup_unusable"


class RestoreRefused(ScreenerError):
    """Something is there that a restore would replace, or the backup is of another namespace or a newer schema."""

    reason = "restore_refused"


class BadInput(ScreenerError):
    """Carries its own `reason`, one of the words in `app.candles.validity.Reason`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.input_reason = reason


class BadCandle(BadInput):
    reason = "bad_candle"


class BadFrame(BadInput):
    reason = "bad_frame"


class RuleError(ScreenerError):
    """`position` is the 0-based offset of the fault in the expression's text."""

    reason = "bad_rule"

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class BadWebhookTarget(ScreenerError):
    """Its message is for whoever gave the target and never repeats the URL, which may hold secrets."""

    reason = "bad_webhook_target"


class TokenRefused(ScreenerError):
    """`code` is one of token_invalid, token_expired, keys_unavailable; the message is fit for the caller."""

    reason = "token_refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoSuchWebhook(ScreenerError):
    reason = "no_such_webhook"
