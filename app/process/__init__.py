"""Shared by every process: health, stop, supervisor, and a safe Faust worker."""
