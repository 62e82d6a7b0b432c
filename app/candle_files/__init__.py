"""Candle files that users have: one reader, one validity, one report."""
