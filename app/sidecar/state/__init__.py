"""State of the sidecar: followed topics, latest values, the database."""
