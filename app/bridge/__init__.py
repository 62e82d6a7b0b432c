"""The role `bridge`: candles from NATS into frames on Kafka."""
