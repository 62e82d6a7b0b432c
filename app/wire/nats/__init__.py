"""Candles on NATS: their form, publishing and pulling."""
