/** Queries that teach the language, from simple to rich. */
export interface Preset {
  title: string;
  where: string;
  sort: string;
  teaches: string;
}

export const PRESETS: readonly Preset[] = [
  { title: "Rising now", where: "price_change_5m > 0.5", sort: "price_change_5m", teaches: "a field, its timeframe, and a comparison; changes are in percent" },
  { title: "Oversold", where: "rsi_14_15m < 30 and rsi_14_1h < 40", sort: "rsi_14_15m", teaches: "indicators, joined with and" },
  { title: "Unusual turnover", where: "volume_ratio_5m > 3 and volume_5m > 100k", sort: "volume_ratio_5m", teaches: "turnover in the quote asset, with k and M" },
  { title: "Tight range", where: "100 * (high_8h - low_8h) / low_8h < 3", sort: "high_8h / low_8h", teaches: "arithmetic on both sides" },
  { title: "Above the averages", where: "close_15m > ema_20_15m and ema_20_15m > ema_50_15m", sort: "close_15m / ema_50_15m", teaches: "fields compared with fields" },
  { title: "Breaks a band", where: "close_15m > bb_upper_15m or close_15m < bb_lower_15m", sort: "volume_15m", teaches: "one condition or another" },
  { title: "Leaders of the day", where: "rank(price_change_1d) <= 10", sort: "price_change_1d", teaches: "rank over all symbols" },
  { title: "Against the market", where: "price_change_1h > mean(price_change_1h) + 1", sort: "price_change_1h", teaches: "mean over all symbols" },
];
