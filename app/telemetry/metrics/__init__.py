"""Metrics, one module for each group."""
