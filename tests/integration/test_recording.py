"""What goes over NATS ends up in a candle file that is whole at any moment."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.candle_files.reader import read_candles
from app.candles.batch import COLUMNS, CandleBatch
from app.clock import SystemClock
from app.errors import BadInput
from app.local.exchange.market.simulated import SimulatedMarket
from app.recording.file import CandleFile
from app.recording.recorder import Recorder
from app.settings import Settings
from app.wire.nats.publish import candle_publisher
from app.wire.nats.stream import connect, ensure_stream, stream_name
from tests.support.candle_batches import Candle, batch_of
from tests.support.eventually import eventually
from tests.support.simulated_batches import batch_of_planes

FIRST_MINUTE = 29_000_000


def market_batch(minutes: int, symbols: int = 4) -> CandleBatch:
    """Closed candles as an exchange gives them, in order of time and symbol."""
    market = SimulatedMarket(symbols, seed=9)
    day, at = divmod(FIRST_MINUTE, 1440)
    planes = market.day(day, 0)[at : at + minutes, :symbols]
    batch = batch_of_planes(market, planes, FIRST_MINUTE)
    names = np.array(batch.symbols)[batch.symbol_index]
    return batch.take(np.lexsort((names, batch.open_time_ms)))


def assert_same_candles(found: CandleBatch, expected: CandleBatch) -> None:
    assert [found.symbol_of(row) for row in range(len(found))] == [
        expected.symbol_of(row) for row in range(len(expected))
    ]
    for name in set(COLUMNS) - {"symbol_index", "ingest_ts_ms", "event_ts_ms"}:
        assert np.array_equal(
            getattr(found, name), getattr(expected, name), equal_nan=name.startswith("taker")
        ), name


@asynccontextmanager
async def recording(settings: Settings, path: Path, *, backlog: bool = False) -> AsyncIterator[Recorder]:
    """A recorder that listens already; when the context ends, it has ended."""
    client = await connect(settings.nats().url, "recorder")
    await ensure_stream(client, settings.names())
    recorder = Recorder(
        client,
        settings.names(),
        SystemClock(),
        CandleFile(path),
        exchange=settings.exchange,
        message_max_bytes=settings.message_max_bytes,
        flush_s=0.1,
        backlog=backlog,
    )
    stop, listening = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(recorder.run(stop, listening.set))
    try:
        await asyncio.wait_for(listening.wait(), 30)
        yield recorder
    finally:
        stop.set()
        await running
        await client.close()


async def publish(settings: Settings, *batches: CandleBatch, candles_per_message: int = 1) -> None:
    async with candle_publisher(settings.nats(), "test", candles_per_message) as publisher:
        for batch in batches:
            await publisher.publish(batch)
        await publisher.flush()


@pytest.mark.parametrize("candles_per_message", [1, 10])
async def test_closed_candles_are_recorded_as_they_were_published(
    settings: Settings, tmp_path: Path, candles_per_message: int
):
    path, batch = tmp_path / "market.parquet", market_batch(5)
    forming = replace(batch.take(slice(0, 4)), closed=np.zeros(4, dtype=np.bool_))
    async with recording(settings, path) as recorder:
        await publish(settings, forming, batch, candles_per_message=candles_per_message)
        await eventually(lambda: recorder.recorded.candles == len(batch))
        await eventually(lambda: path.exists() and len(read_candles(path)) == len(batch))
    assert_same_candles(read_candles(path), batch)


async def test_the_backlog_is_what_was_published_before(settings: Settings, tmp_path: Path):
    batch = market_batch(3)
    await publish(settings, batch)
    async with recording(settings, tmp_path / "old.parquet", backlog=True) as recorder:
        await eventually(lambda: recorder.recorded.candles == len(batch))
    async with recording(settings, tmp_path / "new.parquet") as recorder:
        pass
    assert_same_candles(read_candles(tmp_path / "old.parquet"), batch)
    assert not (tmp_path / "new.parquet").exists()


async def test_a_consumer_that_is_lost_is_made_anew_and_no_candle_is_missed(
    settings: Settings, tmp_path: Path
):
    path, batch = tmp_path / "market.parquet", market_batch(4)
    async with recording(settings, path) as recorder:
        await publish(settings, batch.take(slice(0, 8)))
        await eventually(lambda: recorder.recorded.candles == 8)
        client = await connect(settings.nats().url, "thief")
        (consumer,) = await client.jetstream().consumers_info(stream_name(settings.names()))
        await client.jetstream().delete_consumer(stream_name(settings.names()), consumer.name)
        await client.close()
        await publish(settings, batch.take(slice(8, None)))
        await eventually(lambda: recorder.recorded.candles == len(batch), within_s=60)
    assert_same_candles(read_candles(path), batch)


def disk_full(_: int) -> None:
    raise OSError("no space left on device")


async def test_a_recorder_that_cannot_write_for_a_while_says_so_and_loses_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, batch = tmp_path / "market.parquet", market_batch(2)
    with capture_logs() as logged:
        async with recording(settings, path):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", disk_full)
                await publish(settings, batch)
                await eventually(lambda: "recording_not_written" in [one["event"] for one in logged])
                assert not path.exists()
            await eventually(lambda: path.exists() and len(read_candles(path)) == len(batch))
    assert_same_candles(read_candles(path), batch)


async def test_the_command_records_until_it_is_killed_and_the_file_is_whole(
    settings: Settings, tmp_path: Path
):
    path, batch = tmp_path / "market.parquet", market_batch(3)
    await publish(settings, batch)
    assert settings.nats_url is not None
    environ = os.environ | {
        "SCREENER_NATS_URL": settings.nats_url.get_secret_value(),
        "SCREENER_NAMESPACE": settings.namespace,
    }
    command = (sys.executable, "-m", "app", "record", str(path), "--backlog", "--flush-s", "1")
    recorder = await asyncio.create_subprocess_exec(*command, env=environ, stderr=subprocess.DEVNULL)
    try:
        await eventually(lambda: path.exists() and len(read_candles(path)) == len(batch), within_s=60)
    finally:
        recorder.kill()
        await recorder.wait()
    assert_same_candles(read_candles(path), batch)
    again = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True)
    assert again.returncode != 0
    assert "--append" in again.stderr


def rows(path: Path) -> Sequence[tuple[str, int, float]]:
    """Symbol, minutes since the first one, close."""
    batch = read_candles(path)
    minutes = batch.open_time_ms // 60_000 - FIRST_MINUTE
    symbols = [batch.symbol_of(row) for row in range(len(batch))]
    return list(zip(symbols, minutes.tolist(), batch.close.tolist(), strict=True))


def test_the_last_candle_of_a_minute_counts_and_rows_are_in_order(tmp_path: Path):
    path = tmp_path / "a.parquet"
    file = CandleFile(path)
    file.add(
        batch_of(
            [
                Candle("BUSDT", FIRST_MINUTE + 2, 1.0),
                Candle("AUSDT", FIRST_MINUTE + 2, 2.0),
                Candle("BUSDT", FIRST_MINUTE + 1, 3.0),
            ]
        )
    )
    assert file.flush()
    assert not file.flush()
    file.add(batch_of([Candle("CUSDT", FIRST_MINUTE + 1, 4.0), Candle("BUSDT", FIRST_MINUTE + 2, 5.0)]))
    assert file.flush()
    assert rows(path) == [("BUSDT", 1, 3.0), ("CUSDT", 1, 4.0), ("AUSDT", 2, 2.0), ("BUSDT", 2, 5.0)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_file_is_followed_by_the_next_and_none_is_replaced(tmp_path: Path):
    path = tmp_path / "a.parquet"
    (tmp_path / "a-2.parquet").write_bytes(b"of somebody else")
    file = CandleFile(path, rows_per_file=2)
    for minute in (1, 2, 3):
        file.add(batch_of([Candle("AUSDT", FIRST_MINUTE + minute)]))
        file.flush()
    assert rows(path) == [("AUSDT", 1, 10.0), ("AUSDT", 2, 10.0)]
    assert rows(tmp_path / "a-3.parquet") == [("AUSDT", 3, 10.0)]
    assert (tmp_path / "a-2.parquet").read_bytes() == b"of somebody else"


def test_a_recording_is_continued_from_a_file(tmp_path: Path):
    path = tmp_path / "a.parquet"
    CandleFile(path).flush()
    with pytest.raises(BadInput):
        read_candles(path)
    first = CandleFile(path)
    first.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 1)]))
    first.flush()
    second = CandleFile(path, known=read_candles(path))
    second.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 2)]))
    second.flush()
    assert rows(path) == [("AUSDT", 1, 10.0), ("AUSDT", 2, 10.0)]


def test_a_flush_that_is_cut_short_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.parquet"
    file = CandleFile(path)
    file.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 1)]))
    file.flush()
    file.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 2)]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(OSError, match="no space"):
            file.flush()
    assert rows(path) == [("AUSDT", 1, 10.0)]
    assert file.flush()
    assert rows(path) == [("AUSDT", 1, 10.0), ("AUSDT", 2, 10.0)]


def test_a_flush_waits_for_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.parquet"
    file = CandleFile(path)
    file.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 1)]))
    others: list[Future[bool]] = []
    with ThreadPoolExecutor(1) as thread:

        def flush_again(_: int) -> None:
            if not others:
                file.add(batch_of([Candle("AUSDT", FIRST_MINUTE + 2)]))
                others.append(thread.submit(file.flush))
                with pytest.raises(TimeoutError):
                    others[0].result(timeout=0.5)

        monkeypatch.setattr(os, "fsync", flush_again)
        assert file.flush()
        assert others[0].result(timeout=30)
    assert rows(path) == [("AUSDT", 1, 10.0), ("AUSDT", 2, 10.0)]
    assert list(tmp_path.iterdir()) == [path]
