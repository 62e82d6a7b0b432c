"""The servers the screener needs, started from Python wheels or given by URL."""
