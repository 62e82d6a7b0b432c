"""Values of the tables of minutes: what was packed comes back, whatever else is stored comes as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tables.minutes import compressed, restored


@given(st.binary(max_size=2_000))
def test_a_value_comes_back_to_the_bit(packed: bytes) -> None:
    assert restored(compressed(packed)) == packed


@given(st.binary(max_size=200).filter(lambda data: not data.startswith(b"SCZ1")))
def test_a_value_of_an_earlier_version_comes_as_it_is(value: bytes) -> None:
    assert restored(value) == value


@given(st.binary(max_size=200))
def test_a_damaged_value_raises_nothing(content: bytes) -> None:
    restored(b"SCZ1" + content)


@given(st.data())
def test_a_cut_value_comes_as_it_is(data: st.DataObject) -> None:
    value = compressed(bytes(range(256)) * 4)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    assert restored(cut) == cut
