"""I/O of the alert agent (agents/alerts.py): the active rules and the cooldowns."""
