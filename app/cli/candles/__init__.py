"""Commands over candles: commands that read files and stored minutes, and commands that record or simulate a market."""
