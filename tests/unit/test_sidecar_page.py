"""The page at /: one answer, nothing from outside, and only what the sidecar serves."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from importlib.resources import files

import orjson
import pytest
import yaml

from app.sidecar.client_messages import parse_message
from app.sidecar.metrics_json import FIELD_NAMES
from app.sidecar.page import PAGE, page_response

TEXT = PAGE.decode()


def element(tag: str) -> str:
    (found,) = re.findall(rf"<{tag}>(.*?)</{tag}>", TEXT, re.DOTALL)
    return found


async def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else():
    policy = (await page_response(None)).headers["Content-Security-Policy"]  # type: ignore[arg-type]
    rules = {
        name: sources for name, _, sources in (rule.strip().partition(" ") for rule in policy.split(";"))
    }
    digests = {
        f"{tag}-src": f"'sha256-{base64.b64encode(sha256(element(tag).encode()).digest()).decode()}'"
        for tag in ("script", "style")
    }
    assert rules == {
        "default-src": "'none'",
        **digests,
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_has_no_outside_parts_and_makes_no_markup_of_what_it_is_sent():
    assert not re.search(r"https?://|//cdn|@import|url\(", TEXT)
    assert not re.search(r"\son\w+\s*=\s*[\"']|style\s*=\s*[\"']", TEXT)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", TEXT)


def test_every_element_the_scripts_name_is_on_the_page():
    named = set(re.findall(r"element\(\"([a-z-]+)\"\)", element("script")))
    assert named
    assert named <= set(re.findall(r"id=\"([a-z-]+)\"", TEXT))


def test_every_address_the_page_asks_is_one_of_the_sidecar():
    described = yaml.safe_load(files("app.sidecar").joinpath("openapi.yaml").read_text())["paths"]
    asked = set(re.findall(r"\"(api/[a-z]+)\"", element("script")))
    assert {f"/{path}" for path in asked} <= set(described)
    assert len(asked) >= 4


def test_the_page_subscribes_in_words_the_sidecar_understands():
    fields = re.findall(r"name: \"(\w+)\", title", element("script"))[1:]
    assert set(fields) <= set(FIELD_NAMES)
    said = {
        "type": "subscribe",
        "channel": "metrics",
        "timeframes": ["5m"],
        "fields": fields,
        "interval_ms": 1000,
    }
    parse_message(orjson.dumps(said).decode())


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h", "8h", "1d"])
def test_every_timeframe_can_be_chosen(timeframe):
    assert f">{timeframe}</option>" in TEXT
