"""Through NATS into Kafka: the wire format, publishing, and the bridge."""
