"""What clients touch: REST, WebSocket, health, Prometheus, the page.

    server.py      the process; parts.py, all of it connected; app.py, what happens around a request
    routes.py      every address with its handler and who may call it; openapi.yaml describes them

What it knows
    follower.py    reads [alerts] and [metrics] from a little before their ends -> feeds.py
    alert_log.py   the newest alerts, to send and to resume from; history.py, the older ones from SQL
    latest.py      the latest metrics of every symbol, as one matrix

Before a handler: admission.py
    auth.py        tokens, with the keys of token_keys.py
    rate_limit.py  counted here, shared over Redis (shared_counts.py); client_address.py, origins.py

REST
    rest.py, klines.py, universe.py, screener.py, explain_endpoint.py, rules_endpoint.py, settings_endpoint.py,
    webhook_endpoint.py; parameters.py and bodies.py read what is asked, answers.py and problems.py word what is said

WebSocket (WEBSOCKET.md)
    websocket.py   the two endpoints; session.py, the conversation of /ws; alert_resume.py, up to now
    alert_groups.py, latest_channel.py   what goes to many, made once
    receivers.py   one client behind a bounded queue; client_user.py, whose it is; clients.py, all of them;
                   wire.py, frames
"""
