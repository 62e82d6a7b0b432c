/** The sidecar's answers, as far as the page reads them. `openapi.yaml` and `WEBSOCKET.md` describe all of them. */

export type Severity = "critical" | "high" | "medium" | "low" | "info";
export const SEVERITIES: readonly Severity[] = ["critical", "high", "medium", "low", "info"];

export const TIMEFRAMES = ["1m", "5m", "15m", "1h", "4h", "8h", "1d"] as const;
export type Timeframe = (typeof TIMEFRAMES)[number];

/** Null if a window is incomplete or an indicator is not warmed up. */
export type Value = number | null;

export interface Alert {
  id: string;
  seq: number;
  symbol: string;
  rule_type: string;
  rule_version: number;
  severity: Severity;
  description: string;
  timestamp: string;
  price: number;
  metadata: Record<string, Value>;
  backfilled: boolean;
  /** True for an alert of a shadow rule: it is stored, and sent to nobody. */
  shadow?: true;
}

export interface AlertPage {
  alerts: Alert[];
  next_cursor: string | null;
}

export type TimeframeValues = Record<string, Value | Record<string, Value>>;

export interface Metrics {
  symbol: string;
  timestamp: string;
  open_time: string;
  closed: boolean;
  timeframes: Partial<Record<Timeframe, TimeframeValues>>;
}

export interface Candle {
  symbol: string;
  open_time: string;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
  quote_volume: number;
  closed: boolean;
}

export interface Rule {
  rule_type: string;
  expression: string;
  severity: Severity;
  cooldown_s: number;
  description: string;
  enabled: boolean;
  mode: "live" | "close" | null;
  symbols: string[] | null;
  hold_s: number;
  /** Whether its alerts are stored only, and sent to nobody. */
  shadow: boolean;
  version: number;
  state: "active" | "shadow" | "disabled" | "switched_off";
}

export interface Clause {
  text: string;
  truth: boolean | null;
  value?: Value;
  threshold?: Value;
  margin?: Value;
  null_because?: string;
  parts?: Clause[];
}

export interface Explanation {
  symbol: string;
  rule_type: string;
  rule_version: number;
  expression: string;
  minute: string;
  closed: boolean;
  source: "memory" | "history" | "alert";
  verdict: "fired" | "held_back" | "not_met" | "unknown";
  clause: Clause;
  alert: Alert | null;
  last_alert: Alert | null;
  note: string | null;
}

export type StageState = "fresh" | "stale" | "behind" | "stuck" | "silent" | "absent" | "unknown";

export interface Stage {
  state: StageState;
  age_s: number | null;
  work: Record<string, { waiting: number; waiting_s: number | null }>;
}

export interface Health {
  status: "ok" | "degraded" | "down";
  time: string;
  dependencies: Record<string, { state: "up" | "down"; needed: boolean }>;
  stages: Record<string, Stage>;
  rules: { switched_off: number; which: string[] };
}
