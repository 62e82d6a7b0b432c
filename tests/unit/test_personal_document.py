"""What the page may keep for a person, and how each fault in it is told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.sidecar.rest.personal_document import DOCUMENT_MAX_BYTES, checked_document, readable_document

WHOLE: dict[str, Any] = {
    "watchlists": [{"name": "Majors", "symbols": ["BTCUSDT", "币安人生USDT"]}],
    "screens": [{"name": "Low", "where": "rsi_14_15m < 30", "sort": ""}],
    "mutes": [
        {"kind": "symbol", "name": "DOGEUSDT", "until": "2024-02-27T15:00:00.000Z"},
        {"kind": "rule", "name": "bull_whale", "until": None},
    ],
    "quiet_hours": {"enabled": True, "start": "22:00", "end": "07:30"},
    "columns": ["close:1m", "fibonacci.r1:1h"],
}
SCREEN = {"name": "a", "where": "x" * 2_000, "sort": ""}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"lists": []}, "document.lists: "),
    ({"watchlists": None}, "document.watchlists: "),
    ({"watchlists": [{"name": "", "symbols": []}]}, "document.watchlists.0.name: "),
    ({"watchlists": [{"name": "a", "symbols": ["btc usdt"]}]}, "document.watchlists.0.symbols.0: "),
    ({"watchlists": [{"name": "a", "symbols": []}] * 51}, "document.watchlists: "),
    ({"screens": [{"name": "a", "where": "x"}]}, "document.screens.0.sort: "),
    ({"screens": [SCREEN] * 30}, "document: 61,"),
    ({"mutes": [{"kind": "all", "name": "a", "until": None}]}, "document.mutes.0.kind: "),
    (
        {"mutes": [{"kind": "rule", "name": "a", "until": "2024-13-01T00:00:00.000Z"}]},
        "document.mutes.0.until: ",
    ),
    ({"mutes": [{"kind": "rule", "name": "a", "until": 7}]}, "document.mutes.0.until"),
    ({"quiet_hours": {"enabled": 1, "start": "22:00", "end": "07:00"}}, "document.quiet_hours.enabled: "),
    ({"quiet_hours": {"enabled": True, "start": "24:00", "end": "07:00"}}, "document.quiet_hours.start: "),
    ({"columns": ["close:1m\n"]}, "document.columns.0: "),
    ({"columns": orjson.loads("[" * 500 + "]" * 500)}, "document: "),
]


def test_a_whole_document_is_kept_as_it_is():
    assert orjson.loads(checked_document(WHOLE)) == WHOLE
    assert readable_document(WHOLE) == WHOLE
    assert checked_document({}) == b"{}"


@pytest.mark.parametrize(("document", "told"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_a_fault_is_told_with_its_place(document: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=f"^{told}"):
        checked_document(document)


def test_a_document_may_have_as_many_bytes_as_its_bound_and_no_more():
    empty = len(orjson.dumps({"screens": [SCREEN] * 23 + [SCREEN | {"sort": ""}]}))
    room = DOCUMENT_MAX_BYTES - empty
    for more, fits in ((0, True), (1, False)):
        document = {"screens": [SCREEN] * 23 + [SCREEN | {"sort": "y" * (room + more)}]}
        if fits:
            assert len(checked_document(document)) == DOCUMENT_MAX_BYTES
        else:
            with pytest.raises(ValueError, match="the limit is 49,152"):
                checked_document(document)


@pytest.mark.parametrize("stored", [None, [], "x", {"lists": []}, {"columns": [7]}, {"columns": [2**65]}])
def test_what_something_else_wrote_is_read_as_an_empty_document(stored: object):
    assert readable_document(stored) == {}
