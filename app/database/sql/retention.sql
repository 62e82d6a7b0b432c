-- name: delete_candles
DELETE FROM candles_1m
WHERE ctid = ANY (ARRAY(SELECT ctid FROM candles_1m WHERE time < %(before)s LIMIT %(rows)s));

-- name: delete_metrics
DELETE FROM metrics_calculated
WHERE ctid = ANY (ARRAY(SELECT ctid FROM metrics_calculated WHERE time < %(before)s LIMIT %(rows)s));

-- name: timescale_schema
-- The schema of TimescaleDB's functions if it can be had: installed here, or ready to be. To create it in a
-- server that has not preloaded it would end the connection.
SELECT coalesce(
    (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'timescaledb'),
    (SELECT 'public' FROM pg_available_extensions
     WHERE name = 'timescaledb' AND current_setting('shared_preload_libraries') ~ 'timescaledb')
);

-- name: install_timescale
CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public;

-- name: is_compressed
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(table)s AND compression_enabled
);

-- name: make_hypertable
SELECT {timescale}.create_hypertable(
    {table_text}::regclass, 'time', chunk_time_interval => interval '1 hour',
    create_default_indexes => false, if_not_exists => true, migrate_data => true
);

-- name: allow_compression
ALTER TABLE {table} SET (
    timescaledb.compress, timescaledb.compress_segmentby = {segment_by}, timescaledb.compress_orderby = 'time'
);

-- name: compress_after_an_hour
SELECT {timescale}.add_compression_policy(
    {table_text}::regclass, compress_after => interval '1 hour', if_not_exists => true
);

-- name: forget_retention
SELECT {timescale}.remove_retention_policy({table_text}::regclass, if_exists => true);

-- name: drop_chunks_after
SELECT {timescale}.add_retention_policy(
    {table_text}::regclass, drop_after => make_interval(hours => {hours})
);
