"""From the exchange's sockets into NATS, without losing a minute unnoticed: the role `feed`.

    venue.py       what differs between exchanges: requests, stream names, messages. binance.py, bybit.py
    rest.py        requests within the exchange's rate limits (rate_limit.py), repeated where that can help
    answers.py     answers that are none; klines.py and klines_page.py, those to requests for klines
    connection.py  one shard of the streams: watched, reopened for ever, replaced with overlap
    connections.py all shards of a universe of symbols
    inbox.py       frames that wait for the pump, bounded; outbox.py, candles that wait for NATS
    pump.py        frames -> candles -> NATS
    ticker_feed.py tickers -> Redis
    gap_reader.py  what the collector misses, from [gaps]
    universe.py    which symbols are followed, with hysteresis; followed.py asks again and again
    coverage.py    which closed minutes are owed, by symbol; debts.py, when to ask for them
    backfill.py    pays what is owed, from the exchange's REST klines
    warm_up.py     bars of longer timeframes -> [candles], for the indicators
    feed.py        all of it put together

Time here is the exchange's (`exchange_clock.py`): a minute is over when the exchange says so, whatever the clock
of this machine and however fast a simulated exchange runs.
"""
