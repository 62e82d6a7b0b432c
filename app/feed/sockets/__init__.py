"""Sockets to an exchange: opened, watched, replaced."""
