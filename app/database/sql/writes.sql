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
    id, time, seq, symbol, rule_type, rule_version, severity, description, price, metadata, timings
)
SELECT (a.alert ->> 'id')::uuid, (a.alert ->> 'timestamp')::timestamptz, a.seq,
       a.alert ->> 'symbol', a.alert ->> 'rule_type', (a.alert ->> 'rule_version')::integer,
       a.alert ->> 'severity', a.alert ->> 'description', (a.alert ->> 'price')::double precision,
       a.alert -> 'metadata', a.alert -> 'timings'
FROM unnest(%(seqs)s::bigint[], %(alerts)s::jsonb[]) AS a (seq, alert)
ORDER BY a.seq
ON CONFLICT (id) DO NOTHING;
