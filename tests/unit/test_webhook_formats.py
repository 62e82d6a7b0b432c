"""What receivers of each format are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadWebhookTarget
from app.rules.alert import Alert
from app.sidecar.http.openapi import openapi_document
from app.webhooks.delivery.message import DIGEST_MAX_ALERTS, Kind, Message
from app.webhooks.formats import BODY_MAX_BYTES, FORMATS, check_format, detect_format, render
from tests.support.alerts import make_alert

URLS: dict[str, str] = {
    "json": "https://example.com/hook",
    "discord": "https://discord.com/api/webhooks/1/abc",
    "slack": "https://hooks.slack.com/services/T0/B0/abc",
    "telegram": "https://api.telegram.org/bot1:abc/sendMessage?chat_id=-100123",
}


def alert_of(number: int, **fields: Any) -> dict[str, Any]:
    return make_alert(number) | {"seq": number} | fields


def message(kind: Kind = "alert", *alerts: Mapping[str, Any]) -> Message:
    return Message(UUID(int=7), kind, tuple(map(Alert.from_dict, alerts or (alert_of(1),))))


def body(form: str, sent: Message) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(render(form, URLS[form], sent).body)
    return found


@pytest.mark.parametrize(
    ("url", "form"),
    [
        *((url, form) for form, url in URLS.items()),
        ("https://canary.discord.com/api/webhooks/1/abc", "discord"),
        ("https://discordapp.com/api/webhooks/1/abc", "discord"),
        ("https://DISCORD.com./api/webhooks/1/abc", "discord"),
        ("https://discord.com/api/webhooks/1/abc/slack", "slack"),
        ("https://hooks.slack-gov.com/services/T0/B0/abc", "slack"),
        ("https://notdiscord.com/api/webhooks/1/abc", "json"),
        ("https://discord.com.example.org/api/webhooks/1/abc", "json"),
        ("https://example.com/?u=hooks.slack.com", "json"),
    ],
)
def test_the_format_follows_the_service_of_the_url(url: str, form: str) -> None:
    assert detect_format(url) == form


def test_every_format_is_in_the_document_and_in_the_description_of_the_api() -> None:
    page = files("app.webhooks").joinpath("WEBHOOKS.md").read_text()
    assert {*re.findall(r"^\| `(\w+)` \| .*\|.*\|$", page, re.MULTILINE)} >= {*FORMATS} == {*URLS}
    assert openapi_document()["components"]["schemas"]["WebhookFormat"]["enum"] == list(FORMATS)


def test_json_carries_the_alert_as_the_api_gives_it() -> None:
    alert = alert_of(1)
    assert body("json", message()) == {"type": "alert.fired", "timestamp": alert["timestamp"], "data": alert}
    assert body("json", message("test"))["type"] == "webhook.test"


def test_a_json_digest_counts_its_alerts_and_names_them_in_short() -> None:
    found = body("json", message("digest", *(alert_of(number) for number in range(3))))
    assert (found["type"], found["data"]["count"], found["data"]["omitted"]) == ("alert.digest", 3, 0)
    assert [alert["seq"] for alert in found["data"]["alerts"]] == [0, 1, 2]
    assert found["timestamp"] == alert_of(2)["timestamp"]


def test_only_the_json_format_is_signed() -> None:
    assert {form: render(form, URLS[form], message()).signed for form in FORMATS} == {
        form: form == "json" for form in FORMATS
    }


def test_telegram_is_told_all_that_its_url_says_of_the_message() -> None:
    url = f"{URLS['telegram']}&message_thread_id=7&disable_notification=true"
    check_format(url, "telegram")
    sent = orjson.loads(render("telegram", url, message()).body)
    assert (sent["chat_id"], sent["message_thread_id"], sent["disable_notification"]) == (
        "-100123",
        "7",
        "true",
    )


@pytest.mark.parametrize(("query", "named"), [("text=a", "text"), ("parse_mode=MarkdownV2", "parse_mode")])
def test_a_telegram_url_that_says_what_the_screener_writes_is_refused_by_name(query: str, named: str) -> None:
    with pytest.raises(BadWebhookTarget, match=named):
        check_format(f"{URLS['telegram']}&{query}", "telegram")


@pytest.mark.parametrize("query", ["chat_id=8", "message_thread_id=1&message_thread_id=2", "a%20b=1"])
def test_a_telegram_url_with_a_parameter_twice_or_without_a_name_is_refused(query: str) -> None:
    with pytest.raises(BadWebhookTarget, match="once"):
        check_format(f"{URLS['telegram']}&{query}", "telegram")


def test_telegram_is_told_the_chat_in_the_body_and_not_in_the_url() -> None:
    rendered = render("telegram", URLS["telegram"], message())
    assert rendered.url == "https://api.telegram.org/bot1:abc/sendMessage"
    assert orjson.loads(rendered.body)["chat_id"] == "-100123"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.telegram.org/bot1:abc/sendMessage",
        "https://api.telegram.org/bot1:abc/sendMessage?chat_id=",
        "https://api.telegram.org/bot1:abc/sendMessage?chat_id=a%20b",
        "https://api.telegram.org/bot1:abc/getMe?chat_id=1",
    ],
)
def test_a_telegram_url_without_method_or_chat_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadWebhookTarget) as caught:
        check_format(url, "telegram")
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["alert", "digest", "test"])
def test_every_format_names_symbol_rule_and_price(form: str, kind: Kind) -> None:
    text = render(form, URLS[form], message(kind)).body.decode().replace("\\", "")
    alert = alert_of(1)
    for word in (alert["symbol"], alert["rule_type"], str(alert["price"])):
        assert word in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_symbol_in_chinese_is_written_in_chinese(form: str) -> None:
    rendered = orjson.loads(
        render(form, URLS[form], message("alert", alert_of(1, symbol="\u9f99\u867eUSDT"))).body
    )
    assert "\u9f99\u867eUSDT" in orjson.dumps(rendered).decode()


@pytest.mark.parametrize("form", ["discord", "slack", "telegram"])
def test_people_see_the_changes_that_are_known(form: str) -> None:
    text = render(form, URLS[form], message()).body.decode().replace("\\", "")
    assert "5m +1.25 %, 1h -0.50 %" in text


HOSTILE = "@everyone <!channel> <b>&amp; [x](https://evil.example) `*_~|"


def test_no_text_of_an_alert_mentions_anybody_or_becomes_markup() -> None:
    sent = message("alert", alert_of(1, description=HOSTILE, symbol="<A&B>"))
    discord = body("discord", sent)
    assert discord["allowed_mentions"] == {"parse": []}
    assert "\\[x\\]\\(" in discord["embeds"][0]["description"]
    slack = orjson.dumps(body("slack", sent)).decode()
    assert "<" not in slack
    assert "&lt;!channel&gt;" in slack
    telegram = body("telegram", sent)["text"]
    assert "<b>&lt;A&amp;B&gt; " in telegram
    assert "&lt;!channel&gt; &lt;b&gt;&amp;amp;" in telegram


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts_of(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    return [value] if isinstance(value, str) else []


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["alert", "digest", "test"]),
    count=st.integers(1, DIGEST_MAX_ALERTS),
    text=st.text(max_size=20).map(lambda text: text * 5000) | st.text(max_size=100),
    symbol=st.text(max_size=300),
    metadata=st.dictionaries(
        st.text(max_size=10), st.floats(allow_nan=False) | st.text(max_size=3000) | st.none()
    ),
)
def test_whatever_an_alert_holds_the_body_stays_below_the_limits(
    kind: Kind, count: int, text: str, symbol: str, metadata: dict[str, Any]
) -> None:
    hostile = {"description": text, "symbol": symbol, "metadata": metadata}
    alerts = [alert_of(number, **hostile) for number in range(count if kind == "digest" else 1)]
    sent = message(kind, *alerts)
    for form in FORMATS:
        rendered = render(form, URLS[form], sent)
        assert len(rendered.body) < BODY_MAX_BYTES
        assert rendered == render(form, URLS[form], sent)
    embed = body("discord", sent)["embeds"][0]
    assert len(embed["title"]) <= 256
    assert len(embed["description"]) <= 4096
    assert sum(map(len, texts_of(embed))) <= 6000
    assert all(len(field["value"]) <= 1024 for field in embed.get("fields", ()))
    assert all(len(part) <= 3000 for part in texts_of(body("slack", sent)["blocks"]))
    assert len(body("telegram", sent)["text"]) <= 4096


def test_a_large_digest_says_how_many_it_leaves_out() -> None:
    alerts = [alert_of(number, symbol="X" * 100, rule_type="y" * 100) for number in range(DIGEST_MAX_ALERTS)]
    found = body("json", message("digest", *alerts))["data"]
    assert found["count"] == DIGEST_MAX_ALERTS
    assert found["omitted"] == DIGEST_MAX_ALERTS - len(found["alerts"])
    for form in ("discord", "slack", "telegram"):
        assert any(" more" in text for text in texts_of(body(form, message("digest", *alerts))))
