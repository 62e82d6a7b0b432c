"""What subscriptions to latest values may cost: choices of fields are few, and their work is shared and sliced."""

from __future__ import annotations

import asyncio
from itertools import combinations
from time import perf_counter

import orjson
import pytest

from app.sidecar.live.field_sets import FieldSets, TooManyFieldSets
from app.sidecar.live.frames import FrameBlock
from app.sidecar.live.latest_channel import LatestChannel, WantedValues
from app.sidecar.live.latest_values import MetricsValues
from app.sidecar.rest.metrics_json import FIELD_NAMES, MetricsLayout, row_texts
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.state.limits import SidecarLimits
from tests.support.metric_batches import metrics_batch

EVERYTHING = (frozenset(), frozenset())


def test_equal_choices_count_once_and_one_owner_cannot_have_more_than_its_share():
    sets = FieldSets(most=5, most_per_owner=2)
    sets.take("a", ["address 1"])
    sets.take("a", ["address 1"])
    release = sets.take("b", ["address 1"])
    with pytest.raises(TooManyFieldSets) as refused:
        sets.take("c", ["address 2", "address 1"])
    assert refused.value.owner == "address 1"
    assert len(sets) == 2
    release()
    sets.take("c", ["address 1"])
    assert len(sets) == 2


def test_all_owners_together_have_a_bound_too_and_may_still_take_what_is_in_use():
    sets = FieldSets(most=2, most_per_owner=2)
    sets.take("a", ["address 1"])
    sets.take("b", ["address 2"])
    with pytest.raises(TooManyFieldSets) as refused:
        sets.take("c", ["address 3"])
    assert refused.value.owner is None
    sets.take("a", ["address 3"])


def test_nothing_is_kept_of_owners_who_left():
    sets = FieldSets(most=10, most_per_owner=10)
    for release in [sets.take(choice, [f"address {choice}", "user ann"]) for choice in range(10)]:
        release()
    assert len(sets) == 0
    assert not sets._of_owner


def test_a_row_becomes_text_once_however_many_layouts_take_of_it():
    latest = LatestMetrics()
    symbols = [f"S{n}USDT" for n in range(30)]
    values = MetricsValues(latest)
    choices = [(frozenset({"5m"}), frozenset(fields)) for fields in list(combinations(FIELD_NAMES, 2))[:100]]
    for minute in range(3):
        latest.take(
            metrics_batch([(symbol, minute * 60_000, {"close_5m": minute + 1.5}) for symbol in symbols])
        )
        for choice in choices:
            for symbol in symbols:
                values.encode((symbol, 0), choice)
        assert values._texts.made == (minute + 1) * len(symbols)


def test_a_layout_without_a_field_in_its_timeframe_and_one_of_a_single_column_are_objects_too():
    latest = LatestMetrics()
    latest.take(metrics_batch([("A", 0, {"close_1h": 1.5})]))
    texts = row_texts(latest.row("A"))
    none = MetricsLayout(["1h"], ["volume_surge"]).encode(*texts)
    assert orjson.loads(none)["timeframes"] == {"1h": {}}
    one = MetricsLayout(["1h"], ["close"]).encode(*texts)
    assert orjson.loads(one)["timeframes"] == {"1h": {"close": 1.5}}


class SlowValues:
    """Each value takes longer to encode than a slice of the event loop lasts."""

    channel = "metrics"

    def changed(self, batch):
        return [((batch.symbols[index], 0), None) for index in batch.symbol_index]

    def known(self, _):
        return []

    def encode(self, key, _):
        until_s = perf_counter() + 0.006
        while perf_counter() < until_s:
            pass
        return orjson.dumps({"symbol": key[0], "filler": "x" * 100})


class Taking:
    """A receiver that takes everything, and notes how many turns others had had by then."""

    open = takes_now = True

    def __init__(self, turns: list[int]) -> None:
        self._turns = turns
        self.turns_at_write: list[int] = []

    def write(self, _: FrameBlock) -> None:
        self.turns_at_write.append(self._turns[0])


async def test_an_update_of_many_symbols_lets_everything_else_run_between_its_parts():
    turns = [0]

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    channel = LatestChannel(SlowValues(), SidecarLimits(block_bytes=64))
    receiver = Taking(turns)
    channel.add(receiver, WantedValues(None, EVERYTHING, 250))
    channel.note(metrics_batch([(f"S{n}", 0, {"close_1m": 1.0}) for n in range(10)]))
    beside = asyncio.create_task(others())
    await channel._send_changes()
    beside.cancel()
    assert len(receiver.turns_at_write) == 10
    assert sorted(set(receiver.turns_at_write)) == receiver.turns_at_write, "a turn before each part"
