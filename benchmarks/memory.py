"""The memory of a worker per symbol, by part: `python -m benchmarks.memory`, on one day of the 91 recorded symbols.

Hot because it bounds how many symbols a worker can hold. Everything is counted, not measured: arrays by their size,
values of the tables of minutes as they are stored. A table holds up to 49 hours, twice the size shown here for a day.
"""

from __future__ import annotations

from app.candle_files.reader import by_minutes, read_candle_file
from app.candles.batch import MINUTE_MS
from app.candles.intervals import DAY_MS
from app.candles.known_minutes import KnownMinutes
from app.market.matrix import MarketMatrix
from tables.minutes import compressed
from tests.support.market_data import ALTCOINS_2021, market_data_dir

_ROWS = 20_000


def main() -> None:
    candles = read_candle_file(market_data_dir() / ALTCOINS_2021).candles
    first_ms = int(candles.open_time_ms.min())
    candles = candles.take(candles.open_time_ms < first_ms + DAY_MS)
    matrix, known = MarketMatrix(), KnownMinutes()
    for batch in by_minutes(candles, _ROWS):
        matrix.restore_minutes(batch)
        known.accept(batch)
    symbols = len(matrix.symbols)
    packed = {"calculator": [0, 0], "collector": [0, 0]}
    for open_time_ms in range(first_ms, first_ms + DAY_MS, MINUTE_MS):
        for stage, value in (
            ("calculator", matrix.pack_minute(open_time_ms)),
            ("collector", known.pack_minute(open_time_ms)),
        ):
            packed[stage][0] += len(value)
            packed[stage][1] += len(compressed(value, 0))
    print(f"{symbols} symbols, bytes per symbol")
    print(
        f"{matrix.memory_bytes() / symbols:>10,.0f}  calculator: arrays of the matrix, with room for more symbols"
    )
    for stage, (raw_bytes, stored_bytes) in packed.items():
        print(
            f"{stored_bytes / symbols:>10,.0f}  {stage}: table of a day of minutes; raw {raw_bytes / symbols:,.0f}"
        )


if __name__ == "__main__":
    main()
