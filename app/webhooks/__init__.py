"""Webhooks: alerts to the HTTP endpoints of users and teams, through a durable outbox (WEBHOOKS.md).

    run.py       the role: [alerts] -> delivery/outbox.py -> delivery/sender.py
    delivery/    the outbox, one attempt (attempt.py, post.py), the consequences of its answer (verdicts.py,
                 retries.py), its log
    formats/     the body, in the form that its receiver understands
    targets/     which URLs may be targets (urls.py, resolver.py, addresses.py), and whose they are; signing.py

Any process may die at any point: its messages come again under the same id.
"""
