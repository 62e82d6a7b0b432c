"""Refusing a hostile body costs the sidecar about what the refusal of a harmless one costs that is as large."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import pytest

from app.settings import Settings
from tests.support.legacy import running_gateway
from tests.support.sidecar import Client, prepare, running_sidecar
from tests.support.tokens import SECRET, bearer

ADMIN = bearer("root", admin=True)
BODY_BYTES = 64 * 1024 - 100
TIMES_A_HARMLESS_BODY = 25
ROUTES = (
    ("POST", "/api/rules", {"rule_type": "r", "expression": "close_1m > 1", "severity": "high"}),
    ("PUT", "/api/rules/r", {"expression": "close_1m > 1", "severity": "high"}),
    ("PUT", "/api/me", {"version": 0, "document": {}}),
    ("POST", "/api/settings", {}),
    ("POST", "/api/webhook", {}),
    ("POST", "/api/webhook/secret", {}),
)
VALUES: dict[str, Any] = {
    "numbers": [1] * (BODY_BYTES // 2),
    "texts": [f"S{at}USDT" for at in range(BODY_BYTES // 14)],
    "bad texts": [f"a b{at}" for at in range(BODY_BYTES // 14)],
    "objects": [{}] * (BODY_BYTES // 3),
    "a text": "a" * BODY_BYTES,
    "an expression": "(" * BODY_BYTES,
    "a conjunction": " and ".join(["close_1m > 1"] * (BODY_BYTES // 17)),
    "keys": {f"k{at}": 1 for at in range(BODY_BYTES // 12)},
}
DEEP = b"[" * 500 + b"]" * 500


def bodies(good: dict[str, Any]) -> dict[str, bytes]:
    """Hostile values in every field, and hostile wholes."""
    fields = (*good, "symbols", "unknown", "selected_alerts", "webhook_url")
    found = {
        f"{field}: {name}": orjson.dumps(good | {field: value})
        for field in fields
        for name, value in VALUES.items()
    }
    keys = orjson.dumps(good | VALUES["keys"])
    return found | {"unknown keys": keys, "deep": orjson.dumps(good)[:-1] + b',"deep":' + DEEP + b"}"}


async def cost_s(
    client: Client, method: str, path: str, body: bytes, times: int = 3
) -> tuple[float, int, int]:
    """Seconds of the processor, status, and bytes of the answer: of the cheapest of so many times."""
    taken = []
    headers = {**ADMIN, "Content-Type": "application/json"}
    for _ in range(times):
        began_s = time.thread_time()
        async with client.session.request(method, path, data=body, headers=headers) as answer:
            text = await answer.read()
        taken.append(time.thread_time() - began_s)
    return min(taken), answer.status, len(text)


@pytest.mark.parametrize(
    ("running", "routes"),
    [
        pytest.param(running_sidecar, ROUTES, id="sidecar"),
        pytest.param(running_gateway, [("POST", "/api/settings", {})], id="legacy"),
    ],
)
async def test_no_body_costs_much_more_than_another_of_its_size(
    settings: Settings,
    running: Callable[[Settings], AbstractAsyncContextManager[Client]],
    routes: Sequence[tuple[str, str, dict[str, Any]]],
) -> None:
    await prepare(settings)
    signing = Settings.model_validate({**settings.model_dump(), "jwt_secret": SECRET})
    async with running(signing) as client:
        for method, path, good in routes:
            harmless_s, status, _ = await cost_s(client, method, path, b"[" + b" " * BODY_BYTES + b"]")
            assert status == 400
            for name, body in bodies(good).items():
                taken_s, status, answer_bytes = await cost_s(client, method, path, body)
                assert status < 500, (path, name)
                # a rule for thousands of symbols is one, and comes back
                assert answer_bytes < (20_000 if status >= 400 else 2 * len(body)), (path, name)
                if taken_s >= TIMES_A_HARMLESS_BODY * harmless_s:
                    # what else runs on the machine makes single answers dearer
                    harmless_s, *_ = await cost_s(client, method, path, b"[" + b" " * BODY_BYTES + b"]", 20)
                    taken_s, *_ = await cost_s(client, method, path, body, 20)
                assert taken_s < TIMES_A_HARMLESS_BODY * harmless_s, (path, name, taken_s / harmless_s)
