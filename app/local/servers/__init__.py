"""Servers started from Python wheels, for a machine that has none of its own."""
