"""Signatures, checked by the public library for receivers."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app import webhooks
from app.webhooks.targets.signing import PREFIX, new_secret, signature_headers

BODY = '{"type":"alert.fired","data":{"symbol":"BTCUSDT","text":"größer"}}'.encode()


def now_s() -> int:
    return int(time.time())


def secret_of(length: int) -> str:
    return PREFIX + base64.b64encode(bytes(range(length))).decode()


@pytest.mark.parametrize(
    "secret", [new_secret(), secret_of(24), secret_of(64)], ids=["a new one", "the shortest", "the longest"]
)
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
        assert secret.startswith(PREFIX)
        assert len(base64.b64decode(secret.removeprefix(PREFIX), validate=True)) == 32


def test_the_verification_without_a_library_that_is_documented_is_right() -> None:
    document = (Path(webhooks.__file__).parent / "WEBHOOKS.md").read_text()
    code = document.split("Without a library")[1].split("```python\n")[1].split("```")[0]
    vector = dict(re.findall(r"^\| `?([a-z-]+)`? \| `(.*)` \|$", document, re.MULTILINE))
    scope: dict[str, Any] = {}
    exec(code, scope)  # reason: the document's own example
    headers = {name: vector[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    body = vector["body"].encode()
    sent_at = int(vector["webhook-timestamp"])
    assert signature_headers(vector["webhook-id"], sent_at, body, [vector["secret"]]) == headers
    assert scope["is_ours"](vector["secret"], headers, body, sent_at + 10)
    assert not scope["is_ours"](vector["secret"], headers, body + b" ", sent_at)
    assert not scope["is_ours"](vector["secret"], headers, body, sent_at + 301)
