"""Hostile and random input in bulk, from a seed: a few inputs in a test run, many when started by hand.

`FUZZ_INPUTS=1000000 pytest tests/fuzz`, or one module alone: `python -m tests.fuzz.rules --inputs 1000000`.
"""
