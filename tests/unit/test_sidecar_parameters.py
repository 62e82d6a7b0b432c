"""Query parameters are read exactly."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from app.candles.symbols import is_symbol
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError


def parameters(*pairs: tuple[str, str]) -> Parameters:
    return Parameters(MultiDict(pairs), ("p", "q"))


def refusal(call) -> tuple[int, str]:
    with pytest.raises(RequestError) as refused:
        call()
    return refused.value.status, refused.value.code


moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(moments, offsets)
def test_a_time_is_its_instant_rounded_up_to_the_millisecond(moment, offset):
    aware = moment.replace(tzinfo=UTC)
    since_epoch = aware - datetime(1970, 1, 1, tzinfo=UTC)
    found = parameters(("p", aware.astimezone(offset).isoformat())).time_ms("p")
    assert timedelta(0) <= timedelta(milliseconds=found) - since_epoch < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text", ["2024-02-27t01:02:03z", "2024-02-27T01:02:03.000000000Z", "2024-02-27T02:02:03+01:00"]
)
def test_every_spelling_of_rfc_3339_is_understood(text):
    assert parameters(("p", text)).time_ms("p") == 1_708_995_723_000


@given(st.text(max_size=30))
def test_any_other_text_is_a_time_or_a_refusal(text):
    with contextlib.suppress(RequestError):
        assert isinstance(parameters(("p", text)).time_ms("p"), int)


@given(st.integers(-(10**20), 10**20))
def test_whole_numbers_are_taken_within_their_bounds_only(number):
    given_number = parameters(("p", str(number)))
    if -1 <= number <= 1000:
        assert given_number.whole_number("p", least=-1, most=1000) == number
    else:
        assert refusal(lambda: given_number.whole_number("p", least=-1, most=1000)) == (400, "bad_parameter")


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "1_0", "0x1", "1.0", "¹", "--1", "1\n"])
def test_other_spellings_of_numbers_are_refused(text):
    assert refusal(lambda: parameters(("p", text)).whole_number("p", least=0, most=99)) == (
        400,
        "bad_parameter",
    )


def test_absent_parameters_are_none_or_empty():
    nothing = parameters()
    assert nothing.text("p") is None
    assert nothing.whole_number("p", least=0, most=1) is None
    assert nothing.time_ms("p") is None
    assert nothing.choice("p", ("a",)) is None
    assert nothing.words("p", is_symbol, "a symbol") == ()


def test_lists_join_commas_and_repetition_without_doubles():
    found = parameters(("p", "BTCUSDT,ETHUSDT"), ("p", "ETHUSDT,1000PEPEUSDT"))
    assert found.words("p", is_symbol, "a symbol") == ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT")


def test_a_list_has_its_bound_before_doubles_are_left_out():
    assert parameters(("p", ",".join(["A"] * 200))).words("p", is_symbol, "a symbol") == ("A",)
    crowded = parameters(("p", ",".join(["A"] * 200)), ("p", "A"))
    assert refusal(lambda: crowded.words("p", is_symbol, "a symbol")) == (400, "bad_parameter")


def test_all_unknown_parameters_are_named_at_once():
    with pytest.raises(RequestError) as refused:
        Parameters(
            MultiDict([("symbl", "1"), ("limit", "1"), ("zzz", "1"), ("zzz", "2")]), ("symbol", "limit")
        )
    assert refused.value.message == (
        "unknown parameter 'symbl', 'zzz'; did you mean symbol? known: limit, symbol"
    )
    with pytest.raises(RequestError) as refused:
        Parameters(MultiDict([(f"p{n}", "1") for n in range(500)]), ("symbol",))
    assert "'p9', ... (500 in all);" in refused.value.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("symbl", "unknown parameter 'symbl'; did you mean symbol? known: limit, symbol"),
        ("zzz", "unknown parameter 'zzz'; known: limit, symbol"),
        ("a\r\nb\x1b[31m", "unknown parameter 'a??b??31m'; known: limit, symbol"),
        ("<script>", "unknown parameter '?script?'; known: limit, symbol"),
        ("x" * 5_000, f"unknown parameter '{'x' * 79}…'; known: limit, symbol"),
    ],
    ids=["near", "far", "control characters", "markup", "long"],
)
def test_an_unknown_parameter_is_named_harmlessly_and_a_near_one_suggested(name, said):
    with pytest.raises(RequestError) as refused:
        Parameters(MultiDict([(name, "1")]), ("symbol", "limit"))
    assert (refused.value.code, refused.value.message) == ("unknown_parameter", said)
