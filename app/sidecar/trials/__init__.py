"""Tries rules on stored minutes, in a process of its own: the event loop and the memory of the sidecar stay free."""
