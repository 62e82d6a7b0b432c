"""Values over time, by symbol: rings of minutes or bars, and windows over them.

A track holds one number of every symbol by its time, a minute or the number of a clock-aligned bar. Above the values
stand blocks of 2, 4, 8 ... times, aligned to the clock: a window is put together from few of them. A value that comes
late or changes renews its blocks. So a window is a function of its values alone, to the bit: it knows neither the order
in which they came nor where the track began. Nothing is subtracted from a sum, so nothing drifts.
"""
