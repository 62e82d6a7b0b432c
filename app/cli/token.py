"""`screener token`: a token to sign in with, where tokens are signed with a secret of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import jwt

from app.clock import SystemClock
from app.errors import SettingsError
from app.process.private_files import kept_token_secret
from app.settings import Settings
from app.settings.access import TokenRules


def token(role: str, sub: str, expires_s: int) -> None:
    settings = Settings.load()
    if not 0 < len(sub) <= 255 or not sub.isprintable():
        raise click.BadParameter("a name has 1 to 255 printable characters", param_hint="--sub")
    claims = _claims(settings.tokens(), role, sub, SystemClock().now_ms() // 1000, expires_s)
    click.echo(jwt.encode(claims, _secret(settings.tokens(), settings.data_dir), "HS256"))


def _secret(rules: TokenRules, data_dir: Path) -> str:
    if rules.jwks_url is not None:
        raise SettingsError(
            "SCREENER_JWT_JWKS_URL is set: tokens come from the identity provider that publishes these keys"
        )
    if rules.secret is not None:
        return rules.secret.get_secret_value()
    secret = kept_token_secret(data_dir)
    if secret is None:
        raise SettingsError(
            f"there is no secret to sign with in {data_dir}: start `screener up` here once, or set "
            "SCREENER_JWT_SECRET to that of the sidecar"
        )
    return secret


def _claims(rules: TokenRules, role: str, sub: str, now_s: int, expires_s: int) -> dict[str, object]:
    claims: dict[str, object] = {"sub": sub, "iat": now_s, "exp": now_s + expires_s}
    if rules.issuer is not None:
        claims["iss"] = rules.issuer
    if rules.audience is not None:
        claims["aud"] = rules.audience
    value: Any = rules.admin_value if role == "admin" else role
    for name in reversed(rules.admin_claim.split(".")):
        value = {name: value}
    claims.update(value)
    return claims
