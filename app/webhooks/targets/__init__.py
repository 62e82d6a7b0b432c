"""Webhook targets: validated URLs, secrets, the targets of users and operators."""
