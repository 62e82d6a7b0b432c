"""Candles: batches as columns, validity, known minutes."""
