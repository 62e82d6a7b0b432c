"""Faults at random over all processes of `screener up`; afterwards its alerts must be those of an undisturbed run."""
