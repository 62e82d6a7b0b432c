"""The page as a browser shows it: Chromium, looking at a running `screener up`."""
