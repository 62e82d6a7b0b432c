"""The screener command."""
