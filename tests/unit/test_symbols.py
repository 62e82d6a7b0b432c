"""What a symbol is: letters and digits of any script, and nothing that a subject, a key or a URL could stumble over."""

from __future__ import annotations

import re
import unicodedata

import pytest

from app.candles.symbols import SYMBOL_MAX_CHARS, is_symbol
from app.errors import RuleError
from app.rules.rule import Rule
from app.sidecar.http.openapi import openapi_document

LISTED = (
    "BTCUSDT",
    "1000PEPEUSDT",
    "BTCUSDT_240628",
    "BTC-26SEP25",
    "币安人生USDT",
    "龙虾USDT",
    "БИТКОИНUSDT",
    "биткоинUSDT",
    "हिन्दीUSDT",
    "ไทยรุ้งUSDT",
    "مصرUSDT",
    "ქართულიUSDT",
    "한국USDT",
    "٣٤USDT",
)
NONE = (
    "",
    "btcusdt",
    "BTC USDT",
    "BTC.USDT",
    "BTC*",
    "*",
    ">",
    "币安.人生",
    "BTC\n",
    "\u9f99\u867e\u200bUSDT",
    "\u202eBTCUSDT",
    "BTC\u00a0USDT",
    "BTC\0",
    "\ud83d\ude80",
    "\U0001f680USDT",
    "BTC\ud800",
    "\u0301BTC",
    "_BTC",
    "-BTC",
    "BTC/USDT",
    "BTC,ETH",
    "BTC%",
    "BTC\u0378",
    "BTC\ue000",
    "A" * 33,
    "龙" * 33,
    None,
    7,
    b"BTCUSDT",
)


@pytest.mark.parametrize("symbol", LISTED)
def test_letters_and_digits_of_any_script_are_a_symbol(symbol):
    assert is_symbol(symbol)
    assert Rule("a", "close_1m > 1", "info", symbols=(symbol,)).symbols == (symbol,)


@pytest.mark.parametrize("value", NONE)
def test_what_a_subject_a_key_or_a_url_could_stumble_over_is_none(value):
    assert not is_symbol(value)
    with pytest.raises(RuleError):
        Rule("a", "close_1m > 1", "info", symbols=(value,))


def test_it_is_the_exact_text_not_its_normal_form():
    composed = "É" + "USDT"
    decomposed = unicodedata.normalize("NFD", composed)
    assert is_symbol(composed)
    assert is_symbol(decomposed)
    assert composed != decomposed


def test_the_description_of_the_api_takes_every_symbol_and_refuses_what_ascii_has_beside():
    pattern = re.compile(openapi_document()["components"]["schemas"]["Symbol"]["pattern"])
    assert all(pattern.search(symbol) for symbol in LISTED)
    every_ascii = (chr(code) for code in range(128))
    assert [one for one in every_ascii if bool(pattern.search(one)) != is_symbol(one)] == []
    assert not pattern.search("A" * (SYMBOL_MAX_CHARS + 1))
