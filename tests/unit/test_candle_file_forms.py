"""Each form of candle file that people have, in small, with its traps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.candle_files.names import market_of
from app.candle_files.reader import CandleFiles, read_candle_file
from app.candles.batch import MINUTE_MS
from app.candles.symbols import plain_symbol
from app.errors import BadInput
from tests.support.written_candles import (
    START_MS,
    archive,
    assert_is_the_archive,
    freqtrade_feather,
    kline,
    minutes_of,
    written_json,
    zipped,
)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("per_ms", [1, 1000])
@pytest.mark.parametrize("form", ["csv", "zip", "csv.gz", "daily"])
def test_an_exchange_archive_is_read_with_and_without_header_in_ms_and_us(
    tmp_path: Path, header: bool, per_ms: int, form: str
):
    content = archive([kline(minute, per_ms=per_ms) for minute in range(5)], header=header)
    name = "BTCUSDT-1m-2024-01-01" if form == "daily" else "BTCUSDT-1m-2024-01"
    path = tmp_path / f"{name}.{'csv' if form == 'daily' else form}"
    if form == "zip":
        zipped(path, {f"{name}.csv": content})
    else:
        path.write_bytes(gzip.compress(content, mtime=0) if form == "csv.gz" else content)
    candles = read_candle_file(path).candles
    assert_is_the_archive(candles)
    assert candles.quote_volume.tolist() == [1050.0] * 5
    assert candles.trades.tolist() == [7] * 5
    assert candles.taker_buy_volume.tolist() == [4.5] * 5
    assert candles.taker_buy_quote_volume.tolist() == [450.25] * 5


def test_every_member_of_a_zip_is_read_by_its_own_name(tmp_path: Path):
    members = {
        "spot/ETHUSDT-1m-2024-01.csv": archive([kline(0), kline(1)], header=True),
        "BTCUSDT-1m-2024-01.csv": archive([kline(0), kline(1)]),
        "BTCUSDT-1m-2024-01.zip.CHECKSUM": b"abc",
    }
    candles = read_candle_file(zipped(tmp_path / "all.zip", members)).candles
    assert sorted(minutes_of(candles)) == [("BTCUSDT", 0), ("BTCUSDT", 1), ("ETHUSDT", 0), ("ETHUSDT", 1)]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("BTC_USDT_USDT-1m-futures.feather", freqtrade_feather),
        ("BTC_USDT-1m.feather", freqtrade_feather),
        ("BTC_USDT_USDT-1m-futures.json", written_json),
        ("BTC_USDT-1m.json", written_json),
        ("BTC_USDT_USDT-1m-futures.json.gz", written_json),
        ("BTCUSDT.json", written_json),
        ("BTC-USDT.json", written_json),
    ],
)
def test_files_of_freqtrade_and_ccxt_have_their_symbol_in_their_name(
    tmp_path: Path, name: str, write: Callable[[Path], None]
):
    write(tmp_path / name)
    assert_is_the_archive(read_candle_file(tmp_path / name).candles)


def test_rows_of_json_may_be_whole_klines_with_texts(tmp_path: Path):
    path = tmp_path / "ETHUSDT-1m.json"
    path.write_text(json.dumps([[*map(str, kline(minute).split(","))] for minute in range(5)], indent=1))
    candles = read_candle_file(path).candles
    assert_is_the_archive(candles, "ETHUSDT")
    assert candles.taker_buy_volume.tolist() == [4.5] * 5


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("BTCUSDT-1m-2024-01.zip", "BTCUSDT"),
        ("BTCUSD_PERP-1m-2024-01.csv", "BTCUSD_PERP"),
        ("BTCUSDT_240628-1m-2024-01.csv", "BTCUSDT_240628"),
        ("1000PEPE_USDT_USDT-1m-futures.feather", "1000PEPEUSDT"),
        ("BTC_USD_BTC-1m-futures.feather", "BTCUSD_PERP"),
        ("ETH_BTC-1m.json", "ETHBTC"),
        ("candles.csv", None),
        ("..csv", None),
    ],
)
def test_the_name_of_a_file_names_its_market(name: str, market: str | None):
    found = market_of(name)
    assert (found.market and plain_symbol(found.market), found.refused) == (market, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BTCUSDT-5m-2024-01.csv", "candles of 5m, not of one minute"),
        ("BTCUSDT-1mo-2024-01.csv", "candles of 1mo, not of one minute"),
        ("BTC_USDT_USDT-1m-mark.csv", "candles of mark, not of trades"),
        ("notes.csv", "lacks the columns symbol; no market is in its name"),
    ],
)
def test_a_file_whose_name_says_that_it_has_no_minutes_of_trades_is_refused(
    tmp_path: Path, name: str, said: str
):
    (tmp_path / name).write_bytes(archive([kline(0)]))
    with pytest.raises(BadInput, match=said):
        read_candle_file(tmp_path / name)
    with pytest.raises(BadInput, match=said if "notes" in name else "only 1 of other candles"):
        CandleFiles([tmp_path], skip_bad=True)


def test_numbers_in_scientific_notation_are_read(tmp_path: Path):
    path = tmp_path / "SHIBUSDT-1m-2024-01.csv"
    path.write_text(
        f"{START_MS},8.1e-06,8.2E-6,8.0e-06,8.15e-06,1.5e+9\n{START_MS + MINUTE_MS}.0,1e-5,1e-5,1e-5,1e-5,0\n"
    )
    candles = read_candle_file(path).candles
    assert candles.open.tolist() == [8.1e-06, 1e-05]
    assert candles.volume.tolist() == [1.5e9, 0.0]
