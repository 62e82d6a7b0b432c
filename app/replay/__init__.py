"""Replay: a candle file through the whole pipeline, from NATS to the database, and a report."""
