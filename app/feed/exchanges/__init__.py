"""The exchanges the feed can follow: their words, their REST side, their limits."""
