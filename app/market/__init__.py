"""The market as a matrix: rolling windows and indicators of all symbols of a shard.

`MarketMatrix` (`matrix.py`) takes candle batches in and gives metrics out. Pure: no clock, no I/O.

    candles ─► arrivals ─► intake ─► rings of minutes and quarters (state)
                             │           │
                           block ─► surroundings ─► windows, since, bars, indicators, formations ─► results

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

Shapes and null
- Minutes are rows of rings, symbols the last axis of every array; the rows of minute m are m modulo the
  ring. A block is T <= 15 consecutive minutes of one quarter (clock-aligned 15 minutes) for W symbols; a
  frame of many minutes is a few blocks, a live frame one. Values are (columns, T * W), float64, NaN is
  null.
- Units and null of each column: `columns.py`. Sums, extremes, and what stands on them are null unless every
  minute of the window is known; open, close and price_change need just the one or two minutes they name.
- Indicators stand on unbroken runs of complete clock-aligned bars: a missing minute makes them null until
  its bar has passed and as many bars have closed as the first value needs. When the minute arrives later,
  they are computed again from a checkpoint, as if it had never been missing (`replay.py` says how far
  back).
- A bubble counts the complete ones among the bars before; a surge and the cloud need all of theirs.

Nothing depends on how candles are cut into frames or, within the rings, on the order in which they arrive:
sums are always added in one order (`sequences.py`) and never subtracted (`windows.py`), so that equal
candles give equal bits.

Cost, per candle of a large frame
- windows: one addition per window and plane, and a fifteenth of building the tables (`windows.py`);
- indicators: one step of 9 averages for the 1m bar, a fifth for 5m, and so on; plus one step for each
  timeframe to evaluate the bar at that minute;
- a late candle: its symbols again from a checkpoint, at most four hours before it (some 25 NumPy calls a
  minute, for all symbols of the batch together), without indicators only the quarters that are evaluated.
Memory: 1,515 minutes of six planes, 2,970 of quote volume, 198 quarters, tables and indicators:
`memory_bytes`.

Sources: definitions in `columns.py` and `formations.py`; averages, their seeds and RSI, MACD, ATR: TA-Lib
(`recursion.py`); bands: Welford's update (`indicators.py`).
"""
