"""Closed candles from NATS into a parquet file that `screener replay` and `screener backtest` take.

From NATS, not from an exchange's sockets: what is recorded is what the pipeline saw, of whatever venue and feed,
backfills included, and a recorder that is started late finds up to 48 hours still in the stream.
"""
