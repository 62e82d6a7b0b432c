"""The database: migrations, batched writes of candles, metrics and alerts, and the queries of the readers."""
