"""Messages between roles, and access to NATS, Kafka and Redis."""
