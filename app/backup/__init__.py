"""Backup and restore of all that a namespace keeps: the database, the candle stream, the cooldowns and tickers.

A backup is one directory: `postgres/` (a table a file, as COPY writes it), `nats/` (the server's own snapshot of the
stream with its consumers), `redis/` (one line a key), and `manifest.json` with versions, counts and checksums. It is
complete or not there at all: it is written beside its place and moved there at the end.

Kafka is not part of it. Its topics hold data derived from the stream within two days, workers rebuild their
state from the database, and `seq` of alerts continues behind the last one stored.
"""
