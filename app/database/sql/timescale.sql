-- Setting up TimescaleDB, and what it says of itself. Each statement can be repeated.

-- name: schema_of_functions
-- The schema of TimescaleDB's functions if it can be had: installed here, or ready to be. To create it in a
-- server that has not preloaded it would end the connection. That it is preloaded shows in a setting that its
-- loader defines: the list of preloaded libraries is for superusers.
SELECT coalesce(
    (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'timescaledb'),
    (SELECT 'public' FROM pg_available_extensions
     WHERE name = 'timescaledb' AND current_setting('timescaledb.max_background_workers', true) <> '')
);

-- name: install
CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public;

-- name: make_hypertable
SELECT {timescale}.create_hypertable(
    {table_text}::regclass, 'time', chunk_time_interval => {chunk}::interval,
    create_default_indexes => false, if_not_exists => true, migrate_data => true
);

-- name: set_chunk_length
-- Of new chunks: earlier versions made chunks of an hour.
SELECT {timescale}.set_chunk_time_interval({table_text}::regclass, {chunk}::interval);

-- name: forget_retention_policy
-- Earlier versions left the retention to a policy, which not every licence has and which runs once a day.
SELECT {timescale}.remove_retention_policy({table_text}::regclass, if_exists => true);

-- name: is_compressed
-- Whether the table is compressed in our layout by a policy of ours.
SELECT EXISTS (
    SELECT FROM timescaledb_information.jobs
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(table)s
      AND proc_name = 'policy_compression'
      AND (config ->> 'compress_after')::interval = %(compress_after)s::interval
) AND %(columns)s::text[] = (
    SELECT array_agg(attname::text ORDER BY segmentby_column_index, orderby_column_index)
    FROM timescaledb_information.compression_settings
    WHERE hypertable_schema = current_schema() AND hypertable_name = %(table)s
);

-- name: forget_compression_policy
SELECT {timescale}.remove_compression_policy({table_text}::regclass, if_exists => true);

-- name: allow_compression
ALTER TABLE {table} SET (
    timescaledb.compress, timescaledb.compress_segmentby = {segment_by}, timescaledb.compress_orderby = {order_by}
);

-- name: compress_later
SELECT {timescale}.add_compression_policy({table_text}::regclass, compress_after => {compress_after}::interval);

-- name: make_retention
-- Only the owner of a table may drop its chunks: the sinks, which delete what is expired, call this as the owner.
CREATE OR REPLACE FUNCTION drop_expired_chunks(before timestamptz) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT count(*) FROM (
        SELECT {timescale}.drop_chunks({candles}::regclass, older_than => before)
        UNION ALL
        SELECT {timescale}.drop_chunks({metrics}::regclass, older_than => before)
    ) AS dropped
$$;

-- name: keep_retention_to_the_sinks
REVOKE ALL ON FUNCTION drop_expired_chunks(timestamptz) FROM PUBLIC;

-- name: make_bars_retention
CREATE OR REPLACE FUNCTION drop_expired_bars(before timestamptz) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT count(*)
    FROM unnest(ARRAY[{bars}]) AS bars (name)
    CROSS JOIN LATERAL {timescale}.drop_chunks(bars.name::regclass, older_than => before) AS dropped
$$;

-- name: keep_bars_retention_to_the_sinks
-- Who may drop chunks of minutes may drop those of bars: roles keep working without new grants.
DO $$
DECLARE
    granted record;
BEGIN
    REVOKE ALL ON FUNCTION drop_expired_bars(timestamptz) FROM PUBLIC;
    FOR granted IN
        SELECT a.grantee::regrole AS role
        FROM pg_proc AS p, aclexplode(p.proacl) AS a
        WHERE p.oid = to_regprocedure('drop_expired_chunks(timestamptz)') AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION drop_expired_bars(timestamptz) TO %s', granted.role);
    END LOOP;
END
$$;

-- name: is_installed
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');

-- name: mode
-- Whether our minutes are a hypertable, and compressed. The views exist with the extension only.
SELECT EXISTS (
           SELECT FROM timescaledb_information.dimensions
           WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles_1m'
       ),
       EXISTS (
           SELECT FROM timescaledb_information.compression_settings
           WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles_1m'
       );
