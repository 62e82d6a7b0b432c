"""The market behind the simulated exchange, as planes of minutes x symbols. Pure: time comes from the arguments.

A market gives whole UTC days, in blocks of 128 contracts. The candle of a contract and minute depends on
the seed, the contract's number and the minute alone: wherever a simulation starts and however many contracts
it has, it tells the same story.
"""
