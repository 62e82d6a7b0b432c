"""Code for laptops and tests only: embedded servers, a small Kafka broker, a simulated exchange."""
