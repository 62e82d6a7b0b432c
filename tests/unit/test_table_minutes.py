"""Values of the tables of minutes: what was packed comes back, whatever else is stored comes as it is."""

from __future__ import annotations

import struct

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tables.minutes import compressed, offset_of, restored

OFFSETS = st.integers(-1, 2**63 - 1)


@given(st.binary(max_size=2_000), OFFSETS)
def test_a_value_comes_back_to_the_bit_with_its_offset(packed: bytes, offset: int) -> None:
    value = compressed(packed, offset)
    assert (restored(value), offset_of(value)) == (packed, offset)


@given(st.binary(max_size=2_000))
def test_a_value_of_the_version_without_offsets_comes_back(packed: bytes) -> None:
    value = b"SCZ1" + struct.pack("<I", len(packed)) + pa.compress(packed, codec="zstd", asbytes=True)
    assert (restored(value), offset_of(value)) == (packed, -1)


@given(st.binary(max_size=200).filter(lambda data: not data.startswith((b"SCZ1", b"SCZ2"))))
def test_a_value_of_an_earlier_version_comes_as_it_is(value: bytes) -> None:
    assert restored(value) == value


@given(st.sampled_from([b"SCZ1", b"SCZ2"]), st.binary(max_size=200))
def test_a_damaged_value_raises_nothing(mark: bytes, content: bytes) -> None:
    restored(mark + content)
    offset_of(mark + content)


@given(st.data())
def test_a_cut_value_comes_as_it_is(data: st.DataObject) -> None:
    value = compressed(bytes(range(256)) * 4, 7)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    assert restored(cut) == cut
