"""Tokens: the pinned algorithm, the claims asked for, and keys that nobody but the settings can choose."""

from __future__ import annotations

import time

import jwt
import orjson
import pytest
from aiohttp import web

from app.clock import ManualClock
from app.errors import SettingsError, TokenRefused
from app.settings import Settings
from app.sidecar.access.auth import TokenVerifier, verifier_of
from app.sidecar.access.token_keys import (
    OLDEST_MS,
    REFRESH_MS,
    RETRY_MS,
    PublishedKeys,
    https_fetch,
    usable_keys,
)
from app.times import rfc3339
from tests.support.eventually import eventually
from tests.support.tokens import (
    A_DAY_S,
    SECRET,
    https_server,
    part,
    public_jwk,
    public_pem,
    rsa_key,
    rsa_token,
    signed,
    token,
)

NOW_S = time.time()
CLAIMS = {"sub": "ann", "exp": NOW_S + A_DAY_S}
HS256 = {"alg": "HS256", "typ": "JWT"}


def verifier(**settings: object) -> TokenVerifier:
    found = verifier_of(Settings.load({}, jwt_secret=SECRET, **settings).tokens())
    assert found is not None
    return found


def refusal(text: str, **settings: object) -> str:
    with pytest.raises(TokenRefused) as refused:
        verifier(**settings).verify(text)
    assert text[-20:] not in str(refused.value)
    return refused.value.code


def test_a_token_tells_user_role_and_end():
    caller = verifier().verify(signed(HS256, {**CLAIMS, "role": "admin"}))
    assert (caller.user_id, caller.admin, caller.expires_at_s) == ("ann", True, CLAIMS["exp"])
    assert not verifier().verify(token("bob")).admin


@pytest.mark.parametrize(
    ("claim", "claims", "admin"),
    [
        ("role", {"role": "admin"}, True),
        ("role", {"role": ["user", "admin"]}, True),
        ("role", {"role": "administrator"}, False),
        ("role", {"role": {"admin": True}}, False),
        ("role", {"roles": "admin"}, False),
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}, True),
        ("realm_access.roles", {"realm_access": "admin"}, False),
        ("realm_access.roles", {"realm_access.roles": ["admin"]}, False),
    ],
)
def test_an_administrator_is_told_by_the_claim_named_in_the_settings(claim, claims, admin):
    assert verifier(jwt_admin_claim=claim).verify(signed(HS256, CLAIMS | claims)).admin is admin


def test_without_keys_there_are_no_users():
    assert verifier_of(Settings.load({}).tokens()) is None
    assert verifier_of(Settings.load({"SCREENER_JWT_SECRET": ""}).tokens()) is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"SCREENER_JWT_SECRET": "x" * 31}, "SCREENER_JWT_SECRET: .*32 bytes"),
        ({"SCREENER_JWT_SECRET": SECRET, "SCREENER_JWT_ALGORITHM": "RS256"}, "SCREENER_JWT_ALGORITHM"),
        ({"SCREENER_JWT_SECRET": SECRET, "SCREENER_JWT_ALGORITHM": "none"}, "SCREENER_JWT_ALGORITHM"),
        ({"SCREENER_JWT_JWKS_URL": "https://id.example/keys"}, "SCREENER_JWT_ALGORITHM"),
        ({"SCREENER_JWT_JWKS_URL": "http://id.example", "SCREENER_JWT_ALGORITHM": "RS256"}, "https"),
        ({"SCREENER_JWT_JWKS_URL": "https://u:p@id.example", "SCREENER_JWT_ALGORITHM": "RS256"}, "https"),
        (
            {
                "SCREENER_JWT_SECRET": SECRET,
                "SCREENER_JWT_JWKS_URL": "https://id.example/keys",
                "SCREENER_JWT_ALGORITHM": "RS256",
            },
            "not both",
        ),
    ],
)
def test_keys_that_are_weak_or_do_not_fit_the_algorithm_keep_it_from_starting(environ, named):
    with pytest.raises(SettingsError, match=named) as caught:
        Settings.load(environ)
    assert SECRET not in str(caught.value)
    assert "x" * 31 not in str(caught.value)


def test_unsigned_and_otherwise_signed_tokens_are_refused():
    public = public_pem(rsa_key())
    tokens = [
        f"{part({'alg': 'none'})}.{part(CLAIMS)}.",
        f"{part({'alg': 'None'})}.{part(CLAIMS)}.",
        signed({"alg": "none"}, CLAIMS),
        signed({"alg": "hs256"}, CLAIMS),
        signed({}, CLAIMS),
        jwt.encode(CLAIMS, SECRET + "!" * 32, "HS512"),
        rsa_token("k", rsa_key()),
        signed(HS256, CLAIMS, key=public),
        signed(HS256, CLAIMS)[:-1],
        signed(HS256, CLAIMS)[:-10],
        signed(HS256, CLAIMS).rpartition(".")[0] + ".",
        signed({**HS256, "crit": ["b64"], "b64": False}, CLAIMS),
    ]
    assert [refusal(text) for text in tokens] == ["token_invalid"] * len(tokens)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "a.b.c.d", "é.é.é", "\x00.\x00.\x00", "a" * 9_000, "[].[].[]", "e30.e30.e30"],
)
def test_what_is_no_token_is_refused(text):
    with pytest.raises(TokenRefused):
        verifier().verify(text)


def test_times_are_held_to_with_the_leeway_set():
    assert refusal(token(expires_in_s=-60)) == "token_expired"
    assert refusal(token(nbf=NOW_S + A_DAY_S)) == "token_invalid"
    assert refusal(token(iat=NOW_S + A_DAY_S)) == "token_invalid"
    assert refusal(token(expires_in_s=-60), jwt_leeway_s=0) == "token_expired"
    assert verifier(jwt_leeway_s=300).verify(token(expires_in_s=-60)).user_id == "ann"


@pytest.mark.parametrize("missing", ["sub", "exp", "iss", "aud"])
def test_each_claim_asked_for_must_be_there_and_is_named(missing):
    claims = {**CLAIMS, "iss": "https://id.example", "aud": ["screener", "other"]}
    asked = {"jwt_issuer": "https://id.example", "jwt_audience": "screener"}
    assert verifier(**asked).verify(signed(HS256, claims)).user_id == "ann"
    del claims[missing]
    assert refusal(signed(HS256, claims), **asked) == "token_invalid"
    with pytest.raises(TokenRefused, match=f"the claim {missing} is missing"):
        verifier(**asked).verify(signed(HS256, claims))


def test_another_issuer_or_audience_is_refused_and_neither_matters_when_not_set():
    claims = {**CLAIMS, "iss": "https://evil.example", "aud": "other"}
    assert refusal(signed(HS256, claims), jwt_issuer="https://id.example") == "token_invalid"
    assert refusal(signed(HS256, claims), jwt_audience="screener") == "token_invalid"
    assert verifier().verify(signed(HS256, claims)).user_id == "ann"


@pytest.mark.parametrize(
    "claims",
    [
        {**CLAIMS, "sub": ""},
        {**CLAIMS, "sub": 7},
        {**CLAIMS, "sub": None},
        {**CLAIMS, "sub": "a\x00b"},
        {**CLAIMS, "sub": "a" * 256},
        {**CLAIMS, "exp": "soon"},
        {**CLAIMS, "exp": "99999999999"},
        {**CLAIMS, "exp": [1]},
        '{"sub": "ann", "exp": 1e400}',
        '{"sub": "ann", "exp": 1e999999}',
        '{"sub": "ann", "exp": NaN}',
        '{"sub": "ann", "exp": ' + "9" * 5000 + "}",
        '{"sub": "bob", "exp": 99999999999, "sub": "ann"}',
        '{"sub": "ann", "exp": 99999999999, "x": ' + "[" * 2000 + "]" * 2000 + "}",
        "[]",
        "7",
        "nothing",
    ],
)
def test_claims_that_are_malformed_or_stand_twice_are_refused(claims):
    assert refusal(signed(HS256, claims)) == "token_invalid"


@pytest.mark.parametrize("end", ["1e300", "1" + "0" * 400])
def test_an_end_beyond_the_calendar_counts_as_the_calendars_end(end):
    caller = verifier().verify(signed(HS256, '{"sub": "ann", "exp": ' + end + "}"))
    assert rfc3339(round(caller.expires_at_s * 1000)) == "9999-12-31T23:59:59.000Z"


def test_a_header_name_that_stands_twice_is_refused():
    assert refusal(signed('{"alg": "HS256", "alg": "HS256"}', CLAIMS)) == "token_invalid"


class KeyServer:
    """Key sets as a fetch gives them; counts how often it is asked."""

    def __init__(self, *keys: dict[str, object]) -> None:
        self.answer: bytes | Exception = orjson.dumps({"keys": keys})
        self.asked = 0

    async def fetch(self) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def published(server: KeyServer, clock: ManualClock) -> TokenVerifier:
    settings = Settings.load({}, jwt_jwks_url="https://id.example/keys", jwt_algorithm="RS256")
    found = verifier_of(settings.tokens(), clock)
    assert found is not None
    return TokenVerifier(PublishedKeys(server.fetch, "RS256", clock), found._rules)


async def code_of(found: TokenVerifier, text: str) -> str:
    with pytest.raises(TokenRefused) as refused:
        await found.authenticate(text)
    return refused.value.code


async def test_published_keys_are_loaded_when_needed_and_found_by_kid():
    server = KeyServer(public_jwk("one", rsa_key(0)), public_jwk("two", rsa_key(1)))
    found = published(server, ManualClock(0))
    assert (await found.authenticate(rsa_token("one", rsa_key(0)))).user_id == "ann"
    assert found.verify(rsa_token("two", rsa_key(1))).user_id == "ann"
    assert await code_of(found, rsa_token("two", rsa_key(0))) == "token_invalid"
    assert await code_of(found, rsa_token(None, rsa_key(0))) == "token_invalid"
    assert server.asked == 1


async def test_a_storm_of_unknown_kids_causes_one_load():
    server, clock = KeyServer(public_jwk("one", rsa_key(0))), ManualClock(0)
    found = published(server, clock)
    await found.authenticate(rsa_token("one", rsa_key(0)))
    clock.advance_ms(RETRY_MS)
    kids = ["../../etc/passwd", "https://evil.example/keys", "'; DROP TABLE users;--", "\x00"]
    for kid in kids + [f"kid {n}" for n in range(50)]:
        assert await code_of(found, rsa_token(kid, rsa_key(1))) == "token_invalid"
    assert server.asked == 2


async def test_a_new_key_is_found_by_its_kid_without_waiting_for_the_next_refresh():
    server, clock = KeyServer(public_jwk("old", rsa_key(0))), ManualClock(0)
    found = published(server, clock)
    await found.authenticate(rsa_token("old", rsa_key(0)))
    server.answer = orjson.dumps({"keys": [public_jwk("new", rsa_key(1))]})
    clock.advance_ms(RETRY_MS)
    assert (await found.authenticate(rsa_token("new", rsa_key(1)))).user_id == "ann"
    assert await code_of(found, rsa_token("old", rsa_key(0))) == "token_invalid"


async def test_the_last_good_set_serves_while_the_keys_cannot_be_loaded_but_not_for_ever():
    server, clock = KeyServer(public_jwk("one", rsa_key(0))), ManualClock(0)
    found, text = published(server, clock), rsa_token("one", rsa_key(0))
    await found.authenticate(text)
    for answer in (OSError("gone"), b"no json", b'{"keys": []}', b"[]", b'{"keys": [1, {}]}'):
        asked = server.asked
        server.answer = answer
        clock.advance_ms(REFRESH_MS)
        assert (await found.authenticate(text)).user_id == "ann"
        await eventually(lambda asked=asked: server.asked == asked + 1)
    clock.advance_ms(OLDEST_MS)
    assert await code_of(found, text) == "keys_unavailable"


async def test_before_any_key_was_loaded_tokens_are_refused_as_for_now():
    server = KeyServer()
    server.answer = TimeoutError()
    assert await code_of(published(server, ManualClock(0)), rsa_token("one", rsa_key())) == "keys_unavailable"


async def test_keys_that_a_token_brings_or_points_to_are_ignored():
    server = KeyServer(public_jwk("one", rsa_key(0)))
    found = published(server, ManualClock(0))
    evil = rsa_key(1)
    headers = [
        {"jwk": public_jwk("one", evil)},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/certificate"},
    ]
    for header in headers:
        assert await code_of(found, rsa_token("one", evil, header)) == "token_invalid"
    assert server.asked == 1


async def test_a_public_key_is_no_secret_for_hs256():
    found = published(KeyServer(public_jwk("one", rsa_key())), ManualClock(0))
    header = {"alg": "HS256", "kid": "one"}
    assert await code_of(found, signed(header, CLAIMS, key=public_pem(rsa_key()))) == "token_invalid"


def test_only_keys_meant_for_the_pinned_algorithm_are_used():
    good = public_jwk("good", rsa_key())
    others = [
        public_jwk("other algorithm", rsa_key(), alg="RS512"),
        public_jwk("for encryption", rsa_key(), use="enc"),
        public_jwk("for signing only", rsa_key(), key_ops=["sign"]),
        public_jwk("for what nobody knows", rsa_key(), key_ops=7),
        public_jwk("for nothing", rsa_key(), key_ops=None),
        public_jwk("weak", rsa_key(2, 1024)),
        public_jwk("broken", rsa_key(), n="!"),
        {**good, "kid": 7},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"},
        "no key",
    ]
    assert list(usable_keys(orjson.dumps({"keys": [*others, good]}), "RS256")) == ["good"]
    with pytest.raises(ValueError, match="no key for RS256"):
        usable_keys(orjson.dumps({"keys": others}), "RS256")
    with pytest.raises(ValueError, match="not a key set"):
        usable_keys(orjson.dumps({"keys": [good] * 101}), "RS256")


async def test_key_sets_come_over_https_without_redirects_and_bounded(tmp_path, monkeypatch):
    good = orjson.dumps({"keys": [public_jwk("one", rsa_key())]})
    answers: list[web.Response] = []
    async with https_server(tmp_path, lambda: answers.pop(0)) as url:
        answers.append(web.Response(body=good))
        with pytest.raises(OSError, match="certificate"):
            await https_fetch(f"{url}/keys")()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert await https_fetch(f"{url}/keys")() == good
        answers.append(web.Response(status=302, headers={"Location": f"{url}/keys"}))
        answers.append(web.Response(body=b"[" * 300_000))
        for _ in range(2):
            with pytest.raises(ValueError, match=r"status 302|too large"):
                await https_fetch(f"{url}/keys")()
