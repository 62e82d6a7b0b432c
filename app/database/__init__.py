"""The database: migrations, batched writes of candles, metrics and alerts, and the queries of the readers.

    migrate.py      migrations/*.sql in order; timescale.py, where the extension is there
    sinks.py        the role: one topic_sink.py for each of sink_tables.py
    copy.py         batches in, by COPY (binary_format.py), idempotent; metric_rows.py, stored_alert.py, what a row is
    retention.py    old rows out
    rule_store.py   the table of rules; rule_watch.py follows it in a worker, rule_seed.py brings the shipped ones
    queries.py      alert history; klines.py, bars of any interval; minute_runs.py, history.py, minutes for feed and
                    calculator; user_settings.py
    connection.py   schema, time-outs, the pool; outages.py, going on afterwards

The statements are in sql/*.sql, read by named_queries.py.
"""
