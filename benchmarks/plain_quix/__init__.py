"""The job of `benchmarks.plain_faust` on Quix Streams: same topics, windows and rules, one record per candle.

Its state is in RocksDB with changelog topics, as that library has it. Needs `pip install .[benchmark]`.
"""
