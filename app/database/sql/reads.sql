-- Every query of the readers. A filter that is null does not filter.

-- name: alerts_page
-- One symbol, or one rule, is a value of its own: so an index gives its alerts in order, however many others there are.
SELECT id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings, backfilled,
       shadow
FROM alert_history
WHERE (%(symbol)s::text IS NULL OR symbol = %(symbol)s::text)
  AND (%(rule_type)s::text IS NULL OR rule_type = %(rule_type)s::text)
  AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s::text[]))
  AND (%(rule_types)s::text[] IS NULL OR rule_type = ANY (%(rule_types)s::text[]))
  AND (%(severities)s::text[] IS NULL OR severity = ANY (%(severities)s::text[]))
  AND (%(backfilled)s::boolean IS NULL OR backfilled = %(backfilled)s::boolean)
  AND (%(shadow)s::boolean IS NULL OR shadow = %(shadow)s::boolean)
  AND (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
  AND (%(before_id)s::uuid IS NULL OR (time, id) < (%(before_time)s::timestamptz, %(before_id)s::uuid))
ORDER BY time DESC, id DESC
LIMIT %(rows)s;

-- name: alerts_out_of_time
-- Found along the index on time, at its two ends.
(SELECT id FROM alert_history WHERE time < %(since)s ORDER BY time DESC, id DESC LIMIT 20)
UNION ALL
(SELECT id FROM alert_history WHERE time >= %(until)s ORDER BY time DESC, id DESC LIMIT 20);

-- name: alerts_since
SELECT id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings, backfilled,
       shadow
FROM alert_history
WHERE seq > %(seq)s
ORDER BY seq
LIMIT %(rows)s;

-- name: latest_seq
SELECT max(seq) FROM alert_history;

-- name: last_fires
-- What cooldowns compare: the open of the minute in close mode, the event in live mode.
SELECT h.rule_type, h.symbol, (extract(epoch FROM max(
    CASE WHEN coalesce(r.mode, %(mode)s) = 'close' THEN h.time - interval '1 minute' ELSE h.time END
)) * 1000)::bigint
FROM alert_history AS h
LEFT JOIN alert_rules AS r USING (rule_type)
WHERE h.time >= %(since)s AND h.time < %(until)s
GROUP BY h.rule_type, h.symbol;

-- name: oldest_seq
SELECT min(seq) FROM alert_history;

-- name: alert_seq
SELECT seq FROM alert_history WHERE id = %(id)s::uuid;

-- name: stored_symbols
SELECT symbol FROM candle_symbols ORDER BY symbol;

-- name: newest_day
SELECT newest_day::timestamp AT TIME ZONE 'UTC' FROM candle_symbols WHERE symbol = %(symbol)s;

-- name: newest_minute
SELECT max(time) FROM candles_1m WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s;

-- name: candles_of_all
-- One row per symbol, each column an array in binary form: the client reads it without a step per candle.
WITH candles AS (
    SELECT wanted.position, c.*
    FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS wanted (symbol, position)
    JOIN {table} AS c USING (symbol)
    WHERE c.time >= %(since)s AND c.time < %(until)s {condition}
)
SELECT position - 1, array_send(array_agg(time)),
       array_send(array_agg(open)), array_send(array_agg(high)),
       array_send(array_agg(low)), array_send(array_agg(close)),
       array_send(array_agg(volume)), array_send(array_agg(quote_volume)),
       array_send(array_agg(trades)),
       array_send(array_agg(coalesce(taker_buy_volume, 'NaN'))),
       array_send(array_agg(coalesce(taker_buy_quote_volume, 'NaN')))
FROM candles
GROUP BY position;

-- name: minute_runs
-- Runs of consecutive minutes of each symbol: minutes of one run have the same distance from their number. Symbol by
-- symbol: PostgreSQL 17 goes through the whole index for a range of time of many symbols at once.
SELECT s.symbol, min(numbered.time), max(numbered.time)
FROM (SELECT DISTINCT symbol FROM unnest(%(symbols)s::text[]) AS given (symbol)) AS s
CROSS JOIN LATERAL (
    SELECT time, time - row_number() OVER (ORDER BY time) * interval '1 minute' AS run
    FROM candles_1m AS c
    WHERE c.symbol = s.symbol AND time >= %(since)s AND time < %(until)s
) AS numbered
GROUP BY s.symbol, numbered.run
ORDER BY s.symbol, numbered.run;
