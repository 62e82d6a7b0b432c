-- Longer candles from the stored minutes of one symbol. `date_bin` and `date_trunc` work in UTC, the time zone of every connection.

-- name: newest_minute
SELECT max(time) FROM candles_1m WHERE symbol = %(symbol)s;

-- name: klines
WITH minutes AS (
    SELECT CASE
               WHEN %(by_month)s THEN date_trunc('month', time)
               ELSE date_bin(%(length)s::interval, time, %(origin)s::timestamptz)
           END AS bar,
           time, high, low, volume, quote_volume, trades
    FROM candles_1m
    WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s
), bars AS (
    SELECT bar, min(time) AS first, max(time) AS last, max(high) AS high, min(low) AS low,
           sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades)::bigint AS trades, count(*) AS minutes
    FROM minutes
    GROUP BY bar
)
SELECT b.bar, f.open, b.high, b.low, l.close, b.volume, b.quote_volume, b.trades, b.minutes
FROM bars AS b
JOIN candles_1m AS f ON f.symbol = %(symbol)s AND f.time = b.first
JOIN candles_1m AS l ON l.symbol = %(symbol)s AND l.time = b.last
ORDER BY b.bar;
