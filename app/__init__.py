"""The screener: candles in, exact rolling windows and rules on every update, alerts out."""
