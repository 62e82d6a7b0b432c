/** Every metric that a column can show: its field in the answer, its title, and its format. */
import { TIMEFRAMES, type Metrics, type Timeframe, type Value } from "../client/types";
import { amount, number, percent, price, share } from "../parts/format";

export interface MetricField {
  /** The field to subscribe to. */
  field: string;
  /** The name within that field, for fields that are objects. */
  part?: string;
  title: string;
  write(value: Value): string;
  /** The timeframes that have this metric; all timeframes if undefined. */
  timeframes?: readonly Timeframe[];
  /** Whether its sign means up or down. */
  signed?: boolean;
  width?: number;
}

const ratio = (value: Value): string => number(value, 2);
const level = (value: Value): string => number(value, 1);
const whole = (value: Value): string => number(value, 0);

const pivots: readonly MetricField[] = ["r3", "r2", "r1", "pivot", "s1", "s2", "s3"].map((part) => ({
  field: "fibonacci",
  part,
  title: part === "pivot" ? "Pivot" : `Fib ${part.toUpperCase()}`,
  write: price,
}));
const cloud: readonly MetricField[] = (
  [
    ["conversion", "Ichimoku conv."],
    ["base", "Ichimoku base"],
    ["span_a", "Span A"],
    ["span_b", "Span B"],
  ] as const
).map(([part, title]) => ({ field: "ichimoku", part, title, write: price, timeframes: ["15m"] }));

export const METRIC_FIELDS: readonly MetricField[] = [
  { field: "close", title: "Price", write: price },
  { field: "price_change", title: "Change", write: (value) => percent(value), signed: true },
  { field: "quote_volume", title: "Turnover", write: amount },
  { field: "volume", title: "Base volume", write: amount },
  { field: "trades", title: "Trades", write: amount },
  { field: "volume_ratio", title: "Volume ×", write: ratio },
  { field: "rsi_14", title: "RSI", write: level, width: 5.5 },
  { field: "vcp", title: "VCP", write: ratio, signed: true },
  { field: "vwap", title: "VWAP", write: price },
  { field: "open", title: "Open", write: price },
  { field: "high", title: "High", write: price },
  { field: "low", title: "Low", write: price },
  { field: "macd", title: "MACD", write: price, signed: true },
  { field: "macd_signal", title: "MACD signal", write: price },
  { field: "macd_hist", title: "MACD hist.", write: price, signed: true },
  { field: "bb_upper", title: "BB upper", write: price },
  { field: "bb_middle", title: "BB middle", write: price },
  { field: "bb_lower", title: "BB lower", write: price },
  { field: "atr_14", title: "ATR", write: price },
  { field: "ema_20", title: "EMA 20", write: price },
  { field: "ema_50", title: "EMA 50", write: price },
  { field: "coverage", title: "Known", write: share, width: 5.5 },
  ...pivots,
  ...cloud,
  { field: "volume_bubble", part: "z", title: "Bubble z", write: ratio, timeframes: ["5m", "15m"] },
  { field: "volume_bubble", part: "size", title: "Bubble size", write: whole, timeframes: ["5m", "15m"] },
  { field: "volume_surge", part: "ratio", title: "Surge ×", write: ratio, timeframes: ["5m"] },
];

export interface MetricColumn {
  /** For example `price_change:5m` or `fibonacci.r1:1h`, as stored and in the address. */
  id: string;
  metric: MetricField;
  timeframe: Timeframe;
}

const nameOf = ({ field, part }: MetricField): string => (part === undefined ? field : `${field}.${part}`);

export const METRIC_COLUMNS: ReadonlyMap<string, MetricColumn> = new Map(
  METRIC_FIELDS.flatMap((metric) =>
    (metric.timeframes ?? TIMEFRAMES).map((timeframe) => {
      const id = `${nameOf(metric)}:${timeframe}`;
      return [id, { id, metric, timeframe }] as const;
    }),
  ),
);

/** Return the value of a column; undefined while the values do not have the field. */
export function valueOf(values: Metrics, { metric, timeframe }: MetricColumn): Value | undefined {
  const found = values.timeframes[timeframe]?.[metric.field];
  if (metric.part === undefined) return found as Value | undefined;
  return found === null || typeof found !== "object" ? undefined : found[metric.part];
}
