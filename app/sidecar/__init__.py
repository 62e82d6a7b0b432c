"""What clients touch: REST, WebSocket, health, Prometheus."""
