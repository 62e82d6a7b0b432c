-- Part of the volumes of a minute that buyers took.
-- depends: 0009_candle_symbols

ALTER TABLE candles_1m
    ADD COLUMN taker_buy_volume double precision,
    ADD COLUMN taker_buy_quote_volume double precision;

COMMENT ON COLUMN candles_1m.taker_buy_volume IS
    'base asset; taker_buy_quote_volume is the same in the quote asset; null where the exchange does not tell';
