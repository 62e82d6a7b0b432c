"""From NATS into Kafka: the wire format, the bridge, and the simulated market."""
