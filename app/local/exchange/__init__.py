"""A simulated exchange that speaks the REST and WebSocket protocol of Binance USD-M futures.

    market/     the prices: a seeded model or a candle file; pure
    history.py  candles of any time and interval, computed on request
    rest.py     /fapi/v1/...
    streams/    /stream, /ws: the minute that forms, sent out as it grows (live.py)
    faults/     faults on command, over /sim/... or by schedule
    server.py   all of it on one port

A client can tell it from the exchange only by its prices.
"""
