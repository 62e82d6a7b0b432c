"""Processes that we start: one child, when it is started again, and the roles of one machine."""
