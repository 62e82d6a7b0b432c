"""The job of `benchmarks.plain_faust` on Quix Streams: same topics, windows and rules, one record per candle.

Its state is in RocksDB with changelog topics, the library's default. Needs `pip install .[benchmark]`.
"""
