"""The whole market at one closed minute: when it is complete, and the functions that look at all its symbols."""
