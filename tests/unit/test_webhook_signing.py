"""Signatures, checked by the public library for receivers."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.errors import BadWebhookTarget
from app.webhooks.signing import PREFIX, check_secret, new_secret, signature_headers

BODY = '{"type":"alert.fired","data":{"symbol":"BTCUSDT","text":"größer"}}'.encode()


def now_s() -> int:
    return int(time.time())


def secret_of(length: int) -> str:
    return PREFIX + base64.b64encode(bytes(range(length))).decode()


@pytest.mark.parametrize("secret", [new_secret(), secret_of(24), secret_of(64)])
def test_the_public_library_accepts_what_we_sign(secret: str) -> None:
    headers = signature_headers("msg_1", now_s(), BODY, [secret])
    assert Webhook(secret).verify(BODY, headers)["type"] == "alert.fired"


def test_the_signature_of_the_convention_s_own_example_is_ours() -> None:
    """The vector printed in the specification."""
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_during_a_rotation_the_old_and_the_new_secret_both_verify() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = signature_headers("msg_1", now_s(), BODY, [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, headers)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(now_s() - 1)},
        {"webhook-timestamp": str(now_s() - 3600)},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
    ],
)
def test_what_was_changed_on_the_way_does_not_verify(change: dict[str, str]) -> None:
    secret = new_secret()
    headers = signature_headers("msg_1", now_s(), BODY, [secret]) | change
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signature_headers("msg_1", now_s(), BODY, [secret]))


def test_every_new_secret_is_another_and_a_good_one() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        check_secret(secret)


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", secret_of(23), secret_of(65), secret_of(32).removeprefix(PREFIX), "whsec_hush!hush"],
)
def test_a_secret_of_another_form_or_length_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(BadWebhookTarget) as caught:
        check_secret(secret)
    assert "hush" not in str(caught.value)
