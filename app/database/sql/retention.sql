-- name: delete_rows
-- Time stands twice: on a hypertable a ctid names a row in every chunk.
DELETE FROM {table}
WHERE time < %(before)s AND ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE time < %(before)s LIMIT %(rows)s));

-- name: forget_symbols
-- Without a candle left, but for those that are about to be dropped.
DELETE FROM candle_symbols AS s
WHERE newest_day <= (%(before)s AT TIME ZONE 'UTC')::date AND NOT EXISTS (
    SELECT FROM candles_1m AS c WHERE c.symbol = s.symbol AND c.time >= %(before)s - interval '2 days'
);

-- name: drops_chunks
-- Null: the tables are plain. False: they are hypertables, and this database role may not drop their chunks.
SELECT has_function_privilege(to_regprocedure('drop_expired_chunks(timestamptz)'), 'EXECUTE');

-- name: drop_chunks
SELECT drop_expired_chunks(%(before)s);

-- name: drop_bars
SELECT drop_expired_bars(%(before)s);

-- name: oldest_expired_row
-- Of a plain table, whose index on time finds nothing in time that is not there.
SELECT min(time) FROM {table} WHERE time < %(before)s;

-- name: oldest_expired_chunk
SELECT min(range_end) FROM timescaledb_information.chunks
WHERE hypertable_schema = current_schema() AND hypertable_name = {table_text} AND range_end < %(before)s;

-- name: failing_jobs
-- Of those on our tables: what failed the last time, never ran, or is overdue.
SELECT count(*) FROM timescaledb_information.jobs AS j
LEFT JOIN timescaledb_information.job_stats AS s USING (job_id)
WHERE j.hypertable_schema = current_schema() AND j.scheduled
  AND (s.last_run_status IS DISTINCT FROM 'Success' OR s.next_start < %(now)s - interval '1 hour');
