"""Checks before a handler: who is calling, and whether they may."""
