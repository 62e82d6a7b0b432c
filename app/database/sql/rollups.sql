-- Longer bars, kept by whoever writes minutes. {table} is made of {finer}. Times are bounded by values, so that
-- TimescaleDB plans the chunks between them only. OFFSET 0 keeps the planner from joining by symbol alone.
-- Sums are of decimals: they do not depend on the order.

-- name: lock_symbols
-- One writer at a time for a symbol: its bars are made of what all earlier writers have stored.
INSERT INTO candle_symbols AS old (symbol, newest_day)
SELECT new.symbol, new.day
FROM unnest(%(symbols)s::text[], %(days)s::date[]) AS new (symbol, day)
ORDER BY new.symbol
ON CONFLICT (symbol) DO UPDATE SET newest_day = greatest(old.newest_day, excluded.newest_day)
RETURNING symbol, rolled_to;

-- name: last_bars
-- Of symbols that were forgotten when their last minutes expired.
SELECT wanted.symbol, last.time + interval '5 minutes'
FROM unnest(%(symbols)s::text[]) AS wanted (symbol)
CROSS JOIN LATERAL (
    SELECT max(c.time) AS time FROM candles_5m AS c
    WHERE c.symbol = wanted.symbol AND c.time >= %(since)s AND c.time < %(until)s
) AS last;

-- name: note_rolled
UPDATE candle_symbols AS s SET rolled_to = new.time
FROM unnest(%(symbols)s::text[], %(times)s::timestamptz[]) AS new (symbol, time)
WHERE s.symbol = new.symbol AND (s.rolled_to IS NULL OR s.rolled_to < new.time);

-- name: roll_minutes
-- If all minutes that are in the stored bar are stored, the bar is made of minutes alone. Else some have expired: then
-- the bar is kept, and minutes that are not in it yet are added.
WITH wanted AS (
    SELECT (%(symbols)s::text[])[t.number] AS symbol, to_timestamp(t.start) AS bar
    FROM unnest(%(numbers)s::integer[], %(starts)s::bigint[]) AS t (number, start)
), found AS (
    SELECT w.symbol, w.bar, 1 << (extract(epoch FROM c.time - w.bar) / 60)::integer AS present,
           c.open, c.high, c.low, c.close, c.volume, c.quote_volume, c.trades, c.taker_buy_volume,
           c.taker_buy_quote_volume
    FROM wanted AS w
    CROSS JOIN LATERAL (
        SELECT * FROM candles_1m AS m
        WHERE m.symbol = w.symbol AND m.time >= w.bar AND m.time < w.bar + interval '5 minutes'
          AND m.time >= %(since)s AND m.time < %(until)s
        OFFSET 0
    ) AS c
    -- NaN is above infinity
    WHERE least(c.open, c.high, c.low, c.close) > 0 AND greatest(c.open, c.high, c.low, c.close) < 'infinity'
      AND least(c.volume, c.quote_volume, c.taker_buy_volume, c.taker_buy_quote_volume) >= 0
      AND greatest(c.volume, c.quote_volume, c.taker_buy_volume, c.taker_buy_quote_volume) < 1e30
      AND c.trades BETWEEN 0 AND 1000000000000
      AND date_bin('1 minute', c.time, w.bar) = c.time
), kept AS (
    SELECT old.*
    FROM wanted AS w
    JOIN {table} AS old ON old.symbol = w.symbol AND old.time = w.bar
    LEFT JOIN (SELECT symbol, bar, bit_or(present) AS present FROM found GROUP BY symbol, bar) AS stored
        ON stored.symbol = w.symbol AND stored.bar = w.bar
    WHERE old.time >= %(since)s AND old.time < %(until)s AND old.present & ~coalesce(stored.present, 0) <> 0
), parts AS (
    SELECT f.*, 1 AS minutes
    FROM found AS f
    LEFT JOIN kept AS k ON k.symbol = f.symbol AND k.time = f.bar
    WHERE k.present IS NULL OR k.present & f.present = 0
    UNION ALL
    SELECT symbol, time, present, open, high, low, close, volume, quote_volume, trades, taker_buy_volume,
           taker_buy_quote_volume, minutes
    FROM kept
)
INSERT INTO {table} AS old ({columns}, present)
SELECT symbol, bar,
       -- the part with the lowest bit begins the bar, the one with the highest ends it
       (array_agg(open ORDER BY present & -present))[1], max(high), min(low), (array_agg(close ORDER BY present DESC))[1],
       sum(volume::text::numeric), sum(quote_volume::text::numeric), sum(trades),
       CASE WHEN count(taker_buy_volume) = count(*) THEN sum(taker_buy_volume::text::numeric) END,
       CASE WHEN count(taker_buy_quote_volume) = count(*) THEN sum(taker_buy_quote_volume::text::numeric) END,
       sum(minutes), bit_or(present)
FROM parts
GROUP BY symbol, bar
ON CONFLICT (symbol, time) DO UPDATE SET ({values}, present) = ROW ({new_values}, excluded.present)
WHERE ROW ({old_values}, old.present) IS DISTINCT FROM ROW ({new_values}, excluded.present);

-- name: roll_bars
-- A bar of more minutes than the finer table has is the exchange's own: it stays.
INSERT INTO {table} AS old ({columns})
SELECT f.symbol, w.bar,
       (array_agg(f.open ORDER BY f.time))[1], max(f.high), min(f.low), (array_agg(f.close ORDER BY f.time DESC))[1],
       sum(f.volume::text::numeric), sum(f.quote_volume::text::numeric), sum(f.trades),
       CASE WHEN count(f.taker_buy_volume) = count(*) THEN sum(f.taker_buy_volume::text::numeric) END,
       CASE WHEN count(f.taker_buy_quote_volume) = count(*) THEN sum(f.taker_buy_quote_volume::text::numeric) END,
       sum(f.minutes)
FROM (
    SELECT (%(symbols)s::text[])[t.number] AS symbol, to_timestamp(t.start) AS bar
    FROM unnest(%(numbers)s::integer[], %(starts)s::bigint[]) AS t (number, start)
) AS w
CROSS JOIN LATERAL (
    SELECT * FROM {finer} AS m
    WHERE m.symbol = w.symbol AND m.time >= w.bar AND m.time < w.bar + {length}::interval
      AND m.time >= %(since)s AND m.time < %(until)s
    OFFSET 0
) AS f
GROUP BY f.symbol, w.bar
ON CONFLICT (symbol, time) DO UPDATE SET ({values}) = ROW ({new_values})
WHERE excluded.minutes >= old.minutes AND ROW ({old_values}) IS DISTINCT FROM ROW ({new_values});

-- name: lock_known_symbols
SELECT FROM candle_symbols WHERE symbol = ANY (%(symbols)s::text[]) ORDER BY symbol FOR UPDATE;

-- name: stage_bars
CREATE TEMP TABLE IF NOT EXISTS staged_bars (LIKE candles_1m) ON COMMIT DELETE ROWS;

-- name: put_bars
-- Whole bars of the exchange, from the temporary table: one that is whole already stays as it is.
INSERT INTO {table} AS old ({columns})
SELECT symbol, time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume, taker_buy_quote_volume,
       {minutes}
FROM staged_bars
ON CONFLICT (symbol, time) DO UPDATE SET ({values}) = ROW ({new_values}){every_minute}
WHERE old.minutes < excluded.minutes;

-- name: forget_staged_bars
DELETE FROM staged_bars;

-- name: symbols_to_roll
-- With minutes whose bars are not kept yet: other programs stored them, or a version before the bars.
SELECT s.symbol
FROM candle_symbols AS s
WHERE s.rolled_to IS NULL OR EXISTS (
    SELECT FROM candles_1m AS c
    WHERE c.symbol = s.symbol AND c.time >= s.rolled_to AND c.time >= %(since)s AND c.time < %(until)s
)
ORDER BY s.symbol;

-- name: lock_symbol
SELECT rolled_to FROM candle_symbols WHERE symbol = %(symbol)s FOR UPDATE;

-- name: stored_range
SELECT min(time), max(time) FROM candles_1m WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s;
