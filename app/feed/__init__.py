"""The role `feed`: from the exchange's sockets to NATS, without losing a minute silently.

    run.py         the role: feed.py, all of it put together, with its connections
    exchanges/     the differences between exchanges (exchange.py, binance.py, bybit.py), and REST within their limits
    sockets/       the streams: watched, reopened for ever, replaced with overlap
    frame_queue.py frames that wait for the pump, bounded; publish_queue.py, candles that wait for NATS
    pump.py        frames -> candles -> NATS
    universe.py    which symbols are followed, with hysteresis
    history/       minutes that are owed (coverage.py, backfill.py), requested (minute_requests.py, missing_minutes.py)
                   or reported missing (gap_reader.py), and bars of longer timeframes that warm indicators up
                   (warm_up.py, broken_bars.py)
    ticker_feed.py tickers -> Redis

Time here is the exchange's (`exchange_clock.py`): a minute is over when the exchange says so and this
machine's clock agrees within a bound, however fast a simulated exchange runs.
"""
