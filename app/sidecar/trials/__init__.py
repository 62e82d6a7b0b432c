"""Rules tried on stored minutes by a process of its own: the event loop, and the memory of the sidecar, stay free."""
