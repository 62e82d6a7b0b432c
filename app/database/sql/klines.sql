-- Candles of one symbol, of which the client makes longer ones.
-- The bounds of time are values, not subqueries: so TimescaleDB plans the chunks between them only.

-- name: rolled_to
SELECT rolled_to FROM candle_symbols WHERE symbol = %(symbol)s;

-- name: first_stored
SELECT min(time) FROM {table} WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s;

-- name: last_stored
SELECT max(time) FROM {table} WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s;

-- name: whole_bars
-- A column as an array in binary form: the client reads it without a step per bar.
SELECT array_send(array_agg(time)) FROM {table}
WHERE symbol = %(symbol)s AND time >= %(since)s AND time < %(until)s AND minutes >= {minutes};

-- name: part
-- Rows of one table in [since, until); of minutes, {minutes} is 1.
SELECT time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume, taker_buy_quote_volume,
       {minutes}::bigint AS minutes
FROM {table}
WHERE symbol = %(symbol)s AND time >= {since} AND time < {until};

-- name: klines
-- The rows of these parts in any order; a column is an array in binary form, which the client reads without a step per
-- value.
SELECT array_send(array_agg(time)), array_send(array_agg(trades)), array_send(array_agg(minutes)),
       array_send(array_agg(open)), array_send(array_agg(high)), array_send(array_agg(low)),
       array_send(array_agg(close)), array_send(array_agg(volume)), array_send(array_agg(quote_volume)),
       array_send(array_agg(coalesce(taker_buy_volume, 0))), array_send(array_agg(coalesce(taker_buy_quote_volume, 0))),
       array_send(array_agg(taker_buy_volume IS NULL)), array_send(array_agg(taker_buy_quote_volume IS NULL))
FROM ({parts}) AS parts;
