"""Closed candles from NATS into a parquet file that `screener replay` and `screener backtest` read.

They come from NATS, not from an exchange's sockets: so the recording is the pipeline's input, of any exchange and feed,
backfills included, and a recorder that is started late still finds up to 48 hours in the stream.
"""
