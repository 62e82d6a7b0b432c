"""Webhooks: alerts to the HTTP endpoints of users and teams, through a durable outbox (WEBHOOKS.md).

    service.py      the role: [alerts] -> outbox.py -> sender.py
    message.py      what one request carries; formats/, in whose form; signing.py
    post.py         one request; verdicts.py, what follows from its answer; retries.py, when again
    targets.py      which URLs may be targets; resolver.py and addresses.py look again before every attempt
    target_store.py targets as operators manage them; user_targets.py, those of users; settings_target.py, the one
                    of the deployment
    delivery_log.py what was delivered, and sending it again; trial.py, trying a target
    housekeeping.py users' settings followed, gauges, an end of what is old

Any process may die at any point: what it held comes again under the same id.
"""
