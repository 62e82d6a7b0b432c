"""The WebSocket side: clients, conversations, and the messages to them."""
