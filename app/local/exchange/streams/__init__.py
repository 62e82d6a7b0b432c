"""The WebSocket side of the simulated exchange."""
