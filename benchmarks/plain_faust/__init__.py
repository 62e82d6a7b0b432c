"""The same task as the screener's core pipeline, written in the usual way: one Kafka record per candle.

    NATS -> bridge -> [ingress] -> collector -> [candles] -> calculator -> [metrics] -> alerts -> [alerts]

It follows the Faust documentation: records, agents that process one message at a time, tables for state that must
survive, and plain Python in between. It is the baseline of `benchmarks.pipeline`, and gives the alerts of the
specification for candles in order. Its omissions make it faster, not slower: no database, no Redis, no indicators, no
late candles.
"""
