"""History that the feed fetches: owed minutes, and bars that warm up indicators."""
