"""Backup and restore of all that a namespace keeps: the database, the candle stream, the cooldowns and tickers.

A backup is one directory: `postgres/` (one file per table, as COPY writes it), `nats/` (the server's own snapshot of
the stream with its consumers), `redis/` (one line per key), and `manifest.json` with versions, counts and checksums.
It is complete or does not exist: it is written to a directory beside it, which is renamed at the end.

Kafka is not part of it. Its topics hold data derived from the stream within two days, workers rebuild their
state from the database, and `seq` of alerts continues after the last stored one.
"""
