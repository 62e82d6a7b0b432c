-- Longer bars beside the minutes, kept for as long as history is. The sinks write a bar when it is over: it is made of
-- the bars of the next shorter table, the shortest of minutes. Bars of minutes that are stored already come from the
-- sinks at their start.
-- depends: 0010_taker_volumes

CREATE TABLE candles_5m (
    time timestamptz NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    quote_volume double precision NOT NULL,
    trades bigint NOT NULL,
    taker_buy_volume double precision,
    taker_buy_quote_volume double precision,
    minutes smallint NOT NULL,
    PRIMARY KEY (symbol, time)
);

CREATE TABLE candles_15m (LIKE candles_5m INCLUDING INDEXES);
CREATE TABLE candles_1h (LIKE candles_5m INCLUDING INDEXES);
CREATE TABLE candles_4h (LIKE candles_5m INCLUDING INDEXES);
CREATE TABLE candles_1d (LIKE candles_5m INCLUDING INDEXES);

ALTER TABLE candles_5m ADD COLUMN present smallint NOT NULL DEFAULT 31;

CREATE INDEX candles_5m_time ON candles_5m USING brin (time);
CREATE INDEX candles_15m_time ON candles_15m USING brin (time);
CREATE INDEX candles_1h_time ON candles_1h USING brin (time);
CREATE INDEX candles_4h_time ON candles_4h USING brin (time);
CREATE INDEX candles_1d_time ON candles_1d USING brin (time);

COMMENT ON COLUMN candles_5m.minutes IS 'how many minutes the bar is made of; a bar of the exchange has all';
COMMENT ON COLUMN candles_5m.present IS
    'which minutes these are, bit 0 the first: a minute that comes when others have expired is added to the bar';

ALTER TABLE candle_symbols ADD COLUMN rolled_to timestamptz;

COMMENT ON COLUMN candle_symbols.rolled_to IS
    'end of the newest minute of the symbol whose bars are kept; bars that end later still form';

-- Who reads, writes and deletes candles does so here: roles keep working without new grants.
DO $$
DECLARE
    granted record;
    bars text;
BEGIN
    FOR granted IN
        SELECT a.grantee::regrole AS role, a.privilege_type AS privilege
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'candles_1m'::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
          AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        FOREACH bars IN ARRAY ARRAY['candles_5m', 'candles_15m', 'candles_1h', 'candles_4h', 'candles_1d'] LOOP
            EXECUTE format('GRANT %s ON %I TO %s', granted.privilege, bars, granted.role);
        END LOOP;
    END LOOP;
END
$$;
