"""The database: migrations, connections, and the queries of the readers.

    migrate.py      applies migrations/*.sql in order; timescale.py makes hypertables where the extension is there
    rule_store.py   the table of rules; rule_seed.py adds the shipped ones, rule_history.py reads versions and alerts
    candles/        stored minutes, longer bars, and bars of any interval
    alert_history.py  the stored alerts
    user_settings.py  the users' settings; user_documents.py, the documents that the page keeps for them
    connection.py   schema, time-outs, the pool

The statements are in sql/*.sql, read by named_queries.py. The writes are in `app.sinks`.
"""
