"""The same job as the screener's spine, written in the usual way: one Kafka record per candle.

    NATS -> bridge -> [ingress] -> collector -> [candles] -> calculator -> [metrics] -> alerts -> [alerts]

It follows the Faust documentation: records, agents that take one message at a time, tables for what must
survive, and plain Python in between. It is the baseline of `benchmarks.pipeline`, and gives the alerts of the
specification on candles in order. What it leaves out makes it faster, not slower: no database, no Redis, no
indicators, no late candles.
"""
