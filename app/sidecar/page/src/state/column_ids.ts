/** The columns that the user chose for the table of symbols, in order. */
import { personal } from "./personal";
import { isTexts } from "./preferences";

export const FIRST_COLUMNS: readonly string[] = [
  "close:1m",
  "price_change:5m",
  "price_change:15m",
  "price_change:1h",
  "price_change:1d",
  "quote_volume:1h",
  "quote_volume:1d",
  "volume_ratio:5m",
  "rsi_14:15m",
];

export const chosenIds = personal<string[]>("columns", [...FIRST_COLUMNS], isTexts, (theirs) => theirs);
