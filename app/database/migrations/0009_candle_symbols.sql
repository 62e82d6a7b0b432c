-- The symbols that have candles, so that nobody has to look for them in all of the history.
-- depends: 0008_webhook_formats

CREATE TABLE candle_symbols (
    symbol text COLLATE "C" PRIMARY KEY,
    newest_day date NOT NULL
);

COMMENT ON TABLE candle_symbols IS 'kept by whoever writes candles_1m, in the same transaction';
COMMENT ON COLUMN candle_symbols.newest_day IS 'day (UTC) of the newest minute of the symbol in candles_1m';

-- From symbol to symbol along the key, then to the newest minute of each.
WITH RECURSIVE found (symbol) AS (
    (SELECT symbol FROM candles_1m ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT c.symbol FROM candles_1m AS c WHERE c.symbol > found.symbol ORDER BY c.symbol LIMIT 1)
    FROM found
    WHERE found.symbol IS NOT NULL
)
INSERT INTO candle_symbols (symbol, newest_day)
SELECT found.symbol, (newest.time AT TIME ZONE 'UTC')::date
FROM found
CROSS JOIN LATERAL (
    SELECT max(c.time) AS time FROM candles_1m AS c
    WHERE c.symbol = found.symbol AND c.time >= '2010-01-01Z' AND c.time < '2100-01-01Z'
) AS newest
WHERE newest.time IS NOT NULL;

-- Who reads, writes and deletes candles does so here: roles keep working without new grants.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.grantee::regrole AS role, a.privilege_type AS privilege
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'candles_1m'::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
          AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON candle_symbols TO %s', granted.privilege, granted.role);
    END LOOP;
END
$$;
