"""Webhooks: alerts to the HTTP endpoints of users and teams, through a durable outbox."""
