"""Closed candles from NATS into a parquet file that `screener replay` and `screener backtest` take.

From NATS, not from an exchange's sockets: the recording is the pipeline's input, of any venue and feed,
backfills included, and a recorder that is started late finds up to 48 hours still in the stream.
"""
