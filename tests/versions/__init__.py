"""The tests that meet a server, on the versions of it that people run."""
