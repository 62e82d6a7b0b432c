"""Indicators on clock-aligned bars."""
