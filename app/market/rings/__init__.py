"""The state of the market: rings of minutes and quarters by symbol."""
