"""Tokens and keys for tests, and an HTTPS server for key sets."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SECRET = "a secret of tests that is long enough for HS256"
A_DAY_S = 86_400.0
"""Longer than any test run, because tokens are made when test modules are imported."""


def token(user: str = "ann", *, admin: bool = False, expires_in_s: float = A_DAY_S, **claims: Any) -> str:
    """Return a token signed with `SECRET`. `claims` override its claims; a claim of None is left out."""
    given = {"sub": user, "exp": time.time() + expires_in_s, "role": "admin" if admin else None} | claims
    return jwt.encode({k: v for k, v in given.items() if v is not None}, SECRET, "HS256")


def bearer(user: str = "ann", **of_token: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, **of_token)}"}


def part(value: Any) -> str:
    """Return a part of a token, encoded from a JSON text or from a value."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: str = SECRET) -> str:
    """Return a token signed with HS256, whatever its header says. Header and claims may be any JSON text or value."""
    body = f"{part(header)}.{part(claims)}"
    signature = hmac.new(key.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def public_jwk(kid: str, key: rsa.RSAPrivateKey, **fields: Any) -> dict[str, Any]:
    described = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {**described, "kid": kid, "use": "sig", "alg": "RS256", **fields}


def public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def rsa_token(kid: str | None, key: rsa.RSAPrivateKey, headers: dict[str, Any] | None = None) -> str:
    given = {"sub": "ann", "exp": time.time() + A_DAY_S}
    return jwt.encode(given, key, "RS256", headers={**(headers or {}), **({"kid": kid} if kid else {})})


def certificate(path: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key; return both files."""
    key, name = rsa_key(99), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = path / "certificate.pem", path / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


@asynccontextmanager
async def https_server(path: Path, answer: Callable[[], web.Response]) -> AsyncIterator[str]:
    """Run an https server on loopback that answers every GET with `answer`; yield its URL."""

    async def handle(_: web.Request) -> web.Response:
        return answer()

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(path))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
