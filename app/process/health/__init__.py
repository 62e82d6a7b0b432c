"""Health of a process: whether its loop runs, whether it can work, and its dependencies.

Three questions, three pages on every role's port:
- `/health/live`: does the event loop turn? A no calls for a restart, so only the process itself counts.
- `/health/ready`: can it do its work now (partitions assigned, tables recovered, connected)? A no keeps traffic away.
- `/health`: which server that it depends on answers? For people and alerts; no probe may act on it.
"""
