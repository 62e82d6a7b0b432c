"""The market behind the simulated exchange, as planes of minutes x symbols. Pure: time comes from the arguments.

A market gives whole UTC days, in blocks of 128 contracts. The candle of a contract and minute depends on
the seed, the contract's number and the minute alone, not on the start of a simulation nor on its number of
contracts.
"""
