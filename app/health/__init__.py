"""What a process says of itself: whether its loop turns, whether it can work, and what it depends on.

Three questions, three pages on every role's port:
- `/health/live`: does the event loop turn? A no calls for a restart, so nothing outside the process counts.
- `/health/ready`: can it do its work now (partitions assigned, tables recovered, connected)? A no keeps traffic away.
- `/health`: which server that it depends on answers? For people and alerts; no probe may act on it.
"""
