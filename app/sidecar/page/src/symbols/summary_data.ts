/** A summary of the whole market for every timeframe. It has its own connection, because a connection has one choice of fields. */
import { Connection } from "../client/connection";
import { TIMEFRAMES, type Metrics, type Timeframe } from "../client/types";
import { Market } from "../state/market";

const EVERY_MS = 5000;

export interface TimeframeSummary {
  timeframe: Timeframe;
  /** The number of symbols whose price change over this timeframe is known, because its window is warmed up. */
  known: number;
  /** The share of these symbols that rise; null without any. */
  rising: number | null;
}

export interface Summary {
  symbols: number;
  timeframes: readonly TimeframeSummary[];
  /** The turnover of the last day in the quote asset; null while no symbol has a whole day of data. */
  turnover: number | null;
  /** The change of turnover from the day before, in percent, over the symbols with both days known; null without any. */
  turnoverChange: number | null;
}

export function summarise(rows: readonly Metrics[]): Summary {
  const timeframes = TIMEFRAMES.map((timeframe) => {
    const changes = rows.flatMap((row) => {
      const change = row.timeframes[timeframe]?.["price_change"];
      return typeof change === "number" ? [change] : [];
    });
    const rising = changes.filter((change) => change > 0).length;
    return { timeframe, known: changes.length, rising: changes.length === 0 ? null : rising / changes.length };
  });
  let [whole, now, before] = [0, 0, 0];
  for (const row of rows) {
    const { quote_volume: volume, volume_ratio: ratio } = row.timeframes["1d"] ?? {};
    if (typeof volume !== "number") continue;
    whole += volume;
    if (typeof ratio !== "number" || ratio <= 0) continue;
    now += volume;
    before += volume / ratio;
  }
  return { symbols: rows.length, timeframes, turnover: whole || null, turnoverChange: before > 0 ? (now / before - 1) * 100 : null };
}

/** Call `changed` with every new summary, until the returned function is called. */
export function followSummary(changed: (summary: Summary) => void): () => void {
  const connection = new Connection();
  const market = new Market(connection);
  const stopResting = market.rest();
  market.choose({ timeframes: TIMEFRAMES, fields: ["price_change", "quote_volume", "volume_ratio"], interval_ms: EVERY_MS });
  const stopHearing = market.changes.subscribe(() => changed(summarise([...market.values.values()])));
  connection.start();
  return () => {
    stopHearing();
    stopResting();
    connection.stop();
  };
}
