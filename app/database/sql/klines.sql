-- Longer candles from the stored minutes of one symbol. `date_bin` and `date_trunc` work in UTC, the time zone of every connection.

-- name: klines
-- The bars [first, first + bars) of the given length, or without `first` the last ones up to the one that `last` lies in.
-- Always at least one row: the newest stored minute stands in each, null when there is none.
WITH newest AS (
    SELECT max(time) AS time FROM candles_1m WHERE symbol = %(symbol)s
), ends AS (
    SELECT least(time, %(last)s::timestamptz) AS time FROM newest
), last_bar AS (
    SELECT CASE
               WHEN %(by_month)s THEN date_trunc('month', time)
               ELSE date_bin(%(length)s::interval, time, %(origin)s::timestamptz)
           END AS bar
    FROM ends
), range AS (
    SELECT coalesce(%(first)s::timestamptz, bar - (%(bars)s - 1) * %(length)s::interval) AS since,
           least(
               bar + %(length)s::interval,
               coalesce(%(first)s::timestamptz + %(bars)s * %(length)s::interval, 'infinity')
           ) AS until
    FROM last_bar
), minutes AS (
    SELECT CASE
               WHEN %(by_month)s THEN date_trunc('month', time)
               ELSE date_bin(%(length)s::interval, time, %(origin)s::timestamptz)
           END AS bar,
           time, high, low, volume, quote_volume, trades
    FROM candles_1m
    WHERE symbol = %(symbol)s AND time >= (SELECT since FROM range) AND time < (SELECT until FROM range)
), bars AS (
    SELECT bar, min(time) AS first, max(time) AS last, max(high) AS high, min(low) AS low,
           sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades)::bigint AS trades, count(*) AS minutes
    FROM minutes
    GROUP BY bar
)
SELECT n.time, b.bar, f.open, b.high, b.low, l.close, b.volume, b.quote_volume, b.trades, b.minutes
FROM newest AS n
LEFT JOIN bars AS b ON true
LEFT JOIN candles_1m AS f ON f.symbol = %(symbol)s AND f.time = b.first
LEFT JOIN candles_1m AS l ON l.symbol = %(symbol)s AND l.time = b.last
ORDER BY b.bar;
