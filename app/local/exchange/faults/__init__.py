"""Faults of the simulated exchange, on command or by schedule."""
