"""Authentication: JSON Web Tokens, verified with one fixed algorithm and keys that only the settings name."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from app.clock import Clock, SystemClock
from app.errors import TokenRefused
from app.settings.access import TokenRules
from app.sidecar.access.token_keys import Keys, PublishedKeys, SecretKey, https_fetch

_TOKEN_MAX_CHARACTERS: Final = 8_192
_USER_ID_MAX_CHARACTERS: Final = 255
_LATEST_S: Final = 253_402_300_799
"""The end of 9999: a later time in a token cannot be represented, and counts as this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """user_id: the token's `sub`. expires_at_s: UTC seconds since 1970, after which the token is void."""

    user_id: str
    admin: bool
    expires_at_s: float


class TokenVerifier:
    """Verifies tokens. Both methods raise TokenRefused for a token that identifies no user; the error's text never
    contains the token."""

    def __init__(self, keys: Keys, rules: TokenRules) -> None:
        self._keys = keys
        self._rules = rules
        self._required = ["exp", "sub"]
        self._required += ["iss"] if rules.issuer is not None else []
        self._required += ["aud"] if rules.audience is not None else []

    async def authenticate(self, token: str) -> Caller:
        """Load published keys if they are due, then `verify`."""
        await self._keys.prepare(self._header(token).get("kid"))
        return self.verify(token)

    def verify(self, token: str) -> Caller:
        """Return the caller, using only keys that are already loaded."""
        key = self._keys.of(self._header(token).get("kid"))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._rules.algorithm],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=self._rules.leeway_s,
                options={"require": self._required, "verify_aud": self._rules.audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefused("token_expired", "the token has expired: get a new one") from None
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(f"the claim {error.claim} is missing") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _invalid(_FAULTS.get(type(error), "it cannot be verified")) from None
        if _segment(token, 1) != claims:
            raise _invalid("its claims are ambiguous")
        return self._caller(claims)

    def _header(self, token: str) -> Mapping[str, Any]:
        if len(token) > _TOKEN_MAX_CHARACTERS or not token.isascii() or token.count(".") != 2:
            raise _invalid("it is malformed")
        header = _segment(token, 0)
        if header.get("alg") != self._rules.algorithm:
            raise _invalid(f"it is not signed with {self._rules.algorithm}")
        return header

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        user_id, expires_at_s = claims["sub"], claims["exp"]
        if not 0 < len(user_id) <= _USER_ID_MAX_CHARACTERS or not user_id.isprintable():
            raise _invalid("its sub is not a user name")
        if isinstance(expires_at_s, bool) or not isinstance(expires_at_s, int | float):
            raise _invalid("its exp is not a number")
        return Caller(user_id, self._is_admin(claims), float(min(expires_at_s, _LATEST_S)))

    def _is_admin(self, claims: Mapping[str, Any]) -> bool:
        value: Any = claims
        for name in self._rules.admin_claim.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        wanted = self._rules.admin_value
        return value == wanted or (isinstance(value, list) and wanted in value)


_FAULTS: Final[dict[type[Exception], str]] = {
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.InvalidIssuerError: "it has another issuer",
    jwt.InvalidAudienceError: "it has another audience",
    jwt.ImmatureSignatureError: "it is not valid yet",
}


def _invalid(why: str) -> TokenRefused:
    return TokenRefused("token_invalid", f"invalid token: {why}")


def _segment(token: str, number: int) -> dict[str, Any]:
    """Return the JSON object in a part of the token. A repeated name is rejected: parsers may differ on its value."""
    text = token.split(".")[number]
    try:
        found = json.loads(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("it is malformed") from None
    if not isinstance(found, dict):
        raise _invalid("it is malformed")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def verifier_of(rules: TokenRules, clock: Clock | None = None) -> TokenVerifier | None:
    """Return the verifier; None with neither a secret nor a key URL: then there are no users."""
    keys: Keys
    if rules.secret is not None:
        keys = SecretKey(rules.secret.get_secret_value())
    elif rules.jwks_url is not None:
        keys = PublishedKeys(https_fetch(rules.jwks_url), rules.algorithm, clock or SystemClock())
    else:
        return None
    return TokenVerifier(keys, rules)
