-- Closed minutes and the metrics of closed clock-aligned bars (every value is null until its window is whole).
-- Symbols and timeframes compare bytewise: it is the order of the shards' code and the cheapest to index.
-- BRIN on time: rows arrive in order of time, so it costs next to nothing to keep and serves deletion by age.

CREATE TABLE candles_1m (
    time timestamptz NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    volume double precision NOT NULL,
    quote_volume double precision NOT NULL,
    trades bigint NOT NULL,
    PRIMARY KEY (symbol, time)
);

CREATE INDEX candles_1m_time ON candles_1m USING brin (time);

CREATE TABLE metrics_calculated (
    time timestamptz NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    open double precision,
    high double precision,
    low double precision,
    close double precision,
    volume double precision,
    quote_volume double precision,
    trades double precision,
    vwap double precision,
    price_change double precision,
    volume_ratio double precision,
    coverage double precision,
    vcp double precision,
    fib_pivot double precision,
    fib_r1 double precision,
    fib_r2 double precision,
    fib_r3 double precision,
    fib_s1 double precision,
    fib_s2 double precision,
    fib_s3 double precision,
    rsi_14 double precision,
    macd double precision,
    macd_signal double precision,
    macd_hist double precision,
    bb_upper double precision,
    bb_middle double precision,
    bb_lower double precision,
    atr_14 double precision,
    ema_20 double precision,
    ema_50 double precision,
    vwap_day double precision,
    vwap_week double precision,
    high_10m double precision,
    low_10m double precision,
    surge_ratio double precision,
    surge_side double precision,
    bubble_z double precision,
    bubble_size double precision,
    bubble_side double precision,
    ichimoku_conversion double precision,
    ichimoku_base double precision,
    ichimoku_span_a double precision,
    ichimoku_span_b double precision,
    PRIMARY KEY (symbol, timeframe, time)
);

CREATE INDEX metrics_calculated_time ON metrics_calculated USING brin (time);

COMMENT ON COLUMN metrics_calculated.time IS 'open time of the clock-aligned bar of the timeframe';
COMMENT ON COLUMN metrics_calculated.volume IS 'base asset; quote_volume is the same in the quote asset';
COMMENT ON COLUMN metrics_calculated.vwap_day IS 'vwap_day, vwap_week, high_10m, low_10m: on rows of 1m only';
COMMENT ON COLUMN metrics_calculated.surge_ratio IS 'surge_ratio, surge_side: on rows of 5m only';
COMMENT ON COLUMN metrics_calculated.bubble_z IS 'bubble_z, bubble_size, bubble_side: on rows of 5m and 15m only';
COMMENT ON COLUMN metrics_calculated.ichimoku_conversion IS 'ichimoku_*: on rows of 15m only';
