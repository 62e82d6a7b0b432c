"""The exchanges the feed can follow: their protocols, their REST requests, their limits."""
