"""Rules compiled to NumPy and evaluated over frames of metrics."""
