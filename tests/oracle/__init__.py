"""The alerts of a candle file, computed by brute force straight from the specification.

It shares no code with the pipeline that it checks, and imports only the standard library, numpy and pyarrow.
`python -m tests.oracle FILE...` prints the alerts by rule and how many decisions are close calls.
"""
