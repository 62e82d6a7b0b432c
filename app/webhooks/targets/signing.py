"""Secrets and signatures after the Standard Webhooks convention (standardwebhooks.com), symmetric scheme v1."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
_NEW_BYTES: Final = 32


def new_secret() -> str:
    """Return `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_NEW_BYTES)).decode()


def signature_headers(
    message_id: str, timestamp_s: int, body: bytes, secrets_in_use: Sequence[str]
) -> dict[str, str]:
    """Return the headers webhook-id, webhook-timestamp (UTC seconds) and webhook-signature.

    The signature is HMAC-SHA256 over `id.timestamp.body`, one for each secret, so that receivers can change
    from an old secret to a new one without losing a message.
    """
    signed = b".".join([message_id.encode(), str(timestamp_s).encode(), body])
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets_in_use),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
