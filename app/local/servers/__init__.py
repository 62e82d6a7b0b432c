"""The servers of a machine of its own, started from Python wheels."""
