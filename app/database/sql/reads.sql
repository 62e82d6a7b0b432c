-- Every query of the readers. A filter that is null does not filter.

-- name: alerts_page
SELECT id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings
FROM alert_history
WHERE (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s::text[]))
  AND (%(rule_types)s::text[] IS NULL OR rule_type = ANY (%(rule_types)s::text[]))
  AND (%(severities)s::text[] IS NULL OR severity = ANY (%(severities)s::text[]))
  AND (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
  AND (%(before_id)s::uuid IS NULL OR (time, id) < (%(before_time)s::timestamptz, %(before_id)s::uuid))
ORDER BY time DESC, id DESC
LIMIT %(rows)s;

-- name: alerts_since
SELECT id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings
FROM alert_history
WHERE seq > %(seq)s
ORDER BY seq
LIMIT %(rows)s;

-- name: latest_seq
SELECT max(seq) FROM alert_history;

-- name: oldest_seq
SELECT min(seq) FROM alert_history;

-- name: alert_seq
SELECT seq FROM alert_history WHERE id = %(id)s::uuid;

-- name: stored_symbols
-- Skips from symbol to symbol along the key instead of reading every minute.
WITH RECURSIVE found (symbol) AS (
    (SELECT symbol FROM candles_1m ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT c.symbol FROM candles_1m AS c WHERE c.symbol > found.symbol ORDER BY c.symbol LIMIT 1)
    FROM found
    WHERE found.symbol IS NOT NULL
)
SELECT symbol FROM found WHERE symbol IS NOT NULL;

-- name: newest_minute
SELECT max(time) FROM candles_1m WHERE symbol = %(symbol)s;

-- name: minutes
-- One row per symbol, each column an array in binary form: the client reads it without a step per minute.
WITH minutes AS (
    SELECT wanted.position, c.*
    FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS wanted (symbol, position)
    JOIN candles_1m AS c USING (symbol)
    WHERE c.time >= %(since)s AND c.time < %(until)s
)
SELECT position - 1, array_send(array_agg(time)),
       array_send(array_agg(open)), array_send(array_agg(high)),
       array_send(array_agg(low)), array_send(array_agg(close)),
       array_send(array_agg(volume)), array_send(array_agg(quote_volume)),
       array_send(array_agg(trades))
FROM minutes
GROUP BY position;

-- name: minute_runs
-- Runs of consecutive minutes of each symbol: minutes of one run have the same distance from their number.
SELECT symbol, min(time), max(time)
FROM (
    SELECT symbol, time,
           time - row_number() OVER (PARTITION BY symbol ORDER BY time) * interval '1 minute' AS run
    FROM candles_1m
    WHERE symbol = ANY (%(symbols)s::text[]) AND time >= %(since)s
) AS numbered
GROUP BY symbol, run
ORDER BY symbol, run;
