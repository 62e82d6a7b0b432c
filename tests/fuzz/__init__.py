"""Hostile and random input in bulk, seeded: bounded among the tests, longer by hand.

`FUZZ_INPUTS=1000000 pytest tests/fuzz`, or one module alone: `python -m tests.fuzz.rules --inputs 1000000`.
"""
