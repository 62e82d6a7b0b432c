"""The earlier gateway's interface on a port and subjects of its own, both off by default (LEGACY.md).

Access, limits and data are the sidecar's; the shapes of answers, the errors and the reading of parameters are here and
nowhere else, so that neither interface changes with the other.

app.py        the application: its routes and middlewares
shapes.py     alerts, metrics and tickers in the earlier system's form
reads.py      alerts, metrics, tickers, klines
settings.py   the caller's settings
health.py     health
subjects.py   `alerts.triggered` and `metrics.calculated` on JetStream
"""
