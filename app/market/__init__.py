"""The market as a matrix: rolling windows and indicators of all symbols of a shard.

`MarketMatrix` (`matrix.py`) takes candle batches in and gives metrics out. Pure: no clock, no I/O.

    candles ─► arrivals ─► steps ─► stepping, symbol by symbol: intake ─► rings (state)
                                                                evaluation ─► windows, indicators ─► row

Which candles lead to rows
- A closed candle after its symbol's newest closed minute: one row. Minutes skipped are missing until they
  arrive.
- A forming candle after it: one row per minute and batch (the last of its updates), before the closed
  candle of the same minute if both are in the batch. It changes nothing but its own row: windows and
  indicators of closed minutes do not see it. At or before the newest closed minute it is stale and dropped.
- A closed candle at or before it that was unknown (late) or differs (correction): rows for its minute and
  every later known one, once per batch; beyond `late_horizon_minutes` only the newest minute's row. The
  same candle again: nothing. Each kind is counted.
- The row of minute t sees minutes up to t only. Rows come in order of minute, then symbol.

How it is computed
- Symbols are independent: a minute of a symbol gives the same values whatever frame it comes in.
- All of a symbol's state is one record and its rings (`records.py`); the row of minute m in a ring is m modulo
  its length.
- Every computation is a plain loop over one symbol's minutes, quarters or bars, compiled by Numba
  (`app/compiled.py`). The kernels that Python calls are in `stepping.py`, `arrivals.py` and `warm_up.py`;
  `evaluation.py` computes one minute.
- Values that need only data before the current quarter (clock-aligned 15 minutes) are computed once for that quarter
  and kept in the symbol's tables; a late candle invalidates the tables.
- Where a column stands in a row follows from `fields.py`; a value is float64, NaN is null.

Null
- Units and null of each column: `fields.py`. Sums, extremes, and the values made of them are null unless every minute
  of the window is known; open, close and price_change need just the one or two minutes they name.
- Indicators need unbroken runs of complete clock-aligned bars: a missing minute makes them null until its bar has
  passed and as many bars have closed as the first value needs. When the minute arrives later, they are computed again
  from a checkpoint, as if it had never been missing (`replay.py` says how far back).
- A bubble uses the complete bars among those before it; a surge and the cloud need all of their bars.

Nothing depends on how candles are cut into frames or, within the rings, on the order in which they arrive:
sums are always added in one order, oldest or newest first as the code says, and never subtracted
(`sliding.py`), so that equal candles give equal bits. Compiled code keeps that order: fast-math is off.

Cost: `benchmarks/matrix.md`. A late candle costs its symbol the minutes since a checkpoint, at most four hours.
Memory: 1,515 minutes of six numbers, 2,970 of quote volume, 198 quarters, tables and indicators: `memory_bytes`.

Sources: definitions in `fields.py` and `formations.py`; averages, their seeds and RSI, MACD, ATR: TA-Lib
(`averages.py`); bands: Welford's update (`bands.py`).
"""
