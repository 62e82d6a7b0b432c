"""A simulated exchange that speaks the REST and WebSocket protocol of Binance USD-M futures.

    market/     the prices: a seeded model or a candle file; pure
    history.py  candles of any time and interval, computed when somebody asks
    live.py     the minute that forms, sent out as it grows
    rest.py     /fapi/v1/...          websocket.py, connection.py   /stream, /ws
    faults.py   what goes wrong on command, over /sim/... or by schedule
    server.py   all of it on one port

Nothing that reads from it can tell it from the exchange, but by its prices.
"""
