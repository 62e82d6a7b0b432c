"""Numbers as people read them, wherever they read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.number_text import number_text, plain_digits
from app.rules.alert import Alert
from app.rules.explain import explain_condition
from app.rules.language.canonical_text import to_text
from app.rules.language.parser import parse_condition
from app.webhooks.formats import alert_text
from tests.support.alerts import make_alert


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5_005_610.4, "5,005,610"),
        (710_890.0, "710,890"),
        (0.00004123, "0.00004123"),
        (1234.5678, "1,234.57"),
        (999_999.96, "1,000,000"),
        (0.0, "0"),
        (-0.0, "0"),
        (-1.5, "-1.5"),
        (1e21, "1,000,000,000,000,000,000,000"),
        (1e-9, "0.000000001"),
        (2.0, "2"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_a_number_has_separators_and_no_exponent(value, text):
    assert number_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 15))
def test_a_number_keeps_its_digits_and_is_never_scientific(value, digits):
    text = number_text(value, digits)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=10.0 ** (1 - digits), abs=1e-323)


@given(st.floats(1e-12, 1e20))
def test_plain_digits_are_the_number(value):
    assert "e" not in plain_digits(value)
    assert float(plain_digits(value)) == value


def test_an_explanation_is_written_in_numbers_that_people_read():
    condition = parse_condition("volume_1h > 5M and price > 0.00004")
    values = {"quote_volume_1h": 5_005_610.0, "close_1m": 0.00004123}
    assert explain_condition(condition, [values]).lines()[1:] == [
        "  true  quote_volume_1h > 5000000   [5,005,610 against 5,000,000, margin +5,610]",
        "  true  close_1m > 0.00004   [0.00004123 against 0.00004, margin +0.00000123]",
    ]
    assert to_text(parse_condition("volume > 1e16")) == "quote_volume_1m > 10000000000000000"


def test_a_message_is_written_in_numbers_that_people_read():
    metadata = {"price_change_5m": 1234.5, "volume_5m": 5_005_610.2}
    alert = Alert.from_dict(make_alert(1) | {"price": 0.00004123, "metadata": metadata})
    assert alert_text.price(alert) == "0.00004123"
    assert alert_text.changes(alert) == "5m +1,234.50 %"
    assert alert_text.volumes(alert) == "5m 5,005,610"
