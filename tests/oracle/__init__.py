"""The alerts of a candle file, computed by brute force straight from the specification.

Shares no code with the pipeline it judges: only the standard library, numpy and pyarrow are imported here.
`python -m tests.oracle FILE...` prints the alerts by rule and how many decisions are close calls.
"""
