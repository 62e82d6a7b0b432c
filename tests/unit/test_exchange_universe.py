"""Which symbols are followed, and over which connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.feed.universe import assign, choose

SYMBOLS = [f"S{number:02}USDT" for number in range(40)]


def volumes(order: list[str]) -> dict[str, float]:
    """Largest first."""
    return {symbol: float(1_000 - at) for at, symbol in enumerate(order)}


def test_the_largest_are_followed_in_order_of_volume():
    assert choose(SYMBOLS, volumes(SYMBOLS[::-1]), 3) == tuple(SYMBOLS[::-1][:3])


def test_fewer_symbols_than_asked_for_are_all_followed_even_without_a_volume():
    assert choose(["A", "B"], {}, 10) == ("A", "B")


def test_a_followed_symbol_stays_just_below_the_border_and_leaves_further_down():
    followed = choose(SYMBOLS, volumes(SYMBOLS), 20)
    at_the_border = SYMBOLS[:19] + SYMBOLS[20:22] + SYMBOLS[19:20] + SYMBOLS[22:]
    assert set(choose(SYMBOLS, volumes(at_the_border), 20, followed)) == set(followed)
    far_below = SYMBOLS[:19] + SYMBOLS[20:24] + SYMBOLS[19:20] + SYMBOLS[24:]
    assert set(choose(SYMBOLS, volumes(far_below), 20, followed)) == {*SYMBOLS[:19], SYMBOLS[20]}


def test_a_symbol_that_rises_far_pushes_the_smallest_out():
    followed = choose(SYMBOLS, volumes(SYMBOLS), 20)
    risen = [SYMBOLS[30], *SYMBOLS[:30], *SYMBOLS[31:]]
    assert set(choose(SYMBOLS, volumes(risen), 20, followed)) == {SYMBOLS[30], *SYMBOLS[:19]}


def test_what_is_not_listed_any_more_is_left_at_once_and_replaced():
    followed = choose(SYMBOLS, volumes(SYMBOLS), 5)
    assert choose(SYMBOLS[1:], volumes(SYMBOLS), 5, followed) == tuple(SYMBOLS[1:6])


@given(
    listed=st.sets(st.sampled_from(SYMBOLS)),
    followed=st.lists(st.sampled_from(SYMBOLS), unique=True),
    volume=st.dictionaries(st.sampled_from(SYMBOLS), st.floats(0, 1e9)),
    size=st.integers(1, 40),
)
def test_never_more_than_asked_for_never_one_not_listed_and_the_second_look_changes_nothing(
    listed: set[str], followed: list[str], volume: dict[str, float], size: int
):
    chosen = choose(listed, volume, size, followed)
    assert len(chosen) == len(set(chosen)) == min(size, len(listed))
    assert set(chosen) <= listed
    assert choose(listed, volume, size, chosen) == chosen


def test_shards_are_filled_up_to_the_limit():
    assert [len(shard) for shard in assign([], SYMBOLS, 15)] == [15, 15, 10]


def test_a_new_symbol_goes_where_there_is_room_and_the_other_shards_stay_as_they_are():
    shards = assign([], SYMBOLS[:28], 10)
    after = assign(shards, SYMBOLS[1:29], 10)
    assert after[1] == shards[1]
    assert sorted(symbol for shard in after for symbol in shard) == SYMBOLS[1:29]
    assert len([1 for before, now in zip(shards, after, strict=True) if before != now]) <= 2


def test_a_shard_without_symbols_keeps_its_place():
    assert assign([("A",), ("B",)], ["B"], 1) == [(), ("B",)]


@given(
    before=st.lists(st.sampled_from(SYMBOLS), unique=True),
    after=st.lists(st.sampled_from(SYMBOLS), unique=True),
    most=st.integers(1, 12),
)
def test_every_symbol_is_in_one_shard_and_none_is_too_large(before: list[str], after: list[str], most: int):
    shards = assign(assign([], before, most), after, most)
    assert sorted(symbol for shard in shards for symbol in shard) == sorted(after)
    assert all(len(shard) <= most for shard in shards)
