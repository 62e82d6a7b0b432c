"""Sliding windows over the rings."""
