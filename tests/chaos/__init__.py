"""Random faults in all processes of `screener up`; afterwards its alerts must equal those of an undisturbed run."""
