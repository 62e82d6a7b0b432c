-- name: has_candle
SELECT EXISTS (SELECT FROM candles_1m WHERE symbol = %(symbol)s AND time = %(time)s);

-- name: has_metrics
SELECT EXISTS (
    SELECT FROM metrics_calculated
    WHERE symbol = %(symbol)s AND timeframe = %(timeframe)s AND time = %(time)s
);

-- name: copy
COPY {table} ({columns}) FROM STDIN (FORMAT binary);

-- name: stage
CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table}) ON COMMIT DELETE ROWS;

-- name: upsert
INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM {staging}
ON CONFLICT ({key}) DO UPDATE SET ({values}) = ROW ({new_values})
WHERE ROW ({old_values}) IS DISTINCT FROM ROW ({new_values});

-- name: insert_alerts
INSERT INTO alert_history (
    id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings, backfilled,
    shadow
)
SELECT (a.alert ->> 'id')::uuid, (a.alert ->> 'timestamp')::timestamptz, a.seq,
       a.alert ->> 'symbol', a.alert ->> 'rule_type', (a.alert ->> 'rule_version')::integer,
       a.alert ->> 'severity', a.alert ->> 'description', (a.alert ->> 'price')::double precision,
       a.alert -> 'metadata', a.alert -> 'timings', coalesce((a.alert ->> 'backfilled')::boolean, false),
       coalesce((a.alert ->> 'shadow')::boolean, false)
FROM unnest(%(seqs)s::bigint[], %(alerts)s::jsonb[]) AS a (seq, alert)
ORDER BY a.seq
ON CONFLICT (id) DO NOTHING;

-- name: find_symbols
-- After a restore of a backup from before this table: from symbol to symbol along the key.
WITH RECURSIVE found (symbol) AS (
    (SELECT symbol FROM candles_1m ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT c.symbol FROM candles_1m AS c WHERE c.symbol > found.symbol ORDER BY c.symbol LIMIT 1)
    FROM found
    WHERE found.symbol IS NOT NULL
)
INSERT INTO candle_symbols (symbol, newest_day)
SELECT symbol, (SELECT (max(c.time) AT TIME ZONE 'UTC')::date FROM candles_1m AS c WHERE c.symbol = found.symbol)
FROM found
WHERE symbol IS NOT NULL
ON CONFLICT (symbol) DO NOTHING;
