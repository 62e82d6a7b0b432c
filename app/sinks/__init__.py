"""The role `sinks`: [candles], [metrics] and [alerts] into PostgreSQL."""
