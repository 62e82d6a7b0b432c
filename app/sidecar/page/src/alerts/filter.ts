/** The filter of the alerts, as the address holds it. */
import { SEVERITIES, type Alert, type Severity } from "../client/types";
import type { HistoryFilter } from "../state/alerts";
import { isMuted } from "../state/mutes";

export interface AlertFilter {
  /** Empty: all. */
  severities: readonly Severity[];
  rule: string;
  /** A part of the symbol's name. */
  symbol: string;
  muted: boolean;
  mine: boolean;
}

export function filterOf(query: URLSearchParams): AlertFilter {
  const words = (query.get("severity") ?? "").split(",");
  return {
    severities: SEVERITIES.filter((severity) => words.includes(severity)),
    rule: query.get("rule") ?? "",
    symbol: (query.get("symbol") ?? "").toUpperCase(),
    muted: query.get("muted") === "shown",
    mine: query.get("mine") === "only",
  };
}

export function fits(alert: Alert, filter: AlertFilter): boolean {
  return (
    (filter.severities.length === 0 || filter.severities.includes(alert.severity)) &&
    (!filter.rule || alert.rule_type === filter.rule) &&
    alert.symbol.toUpperCase().includes(filter.symbol)
  );
}

/** The part of the filter that the sidecar can apply. It cannot search for a part of a symbol's name. */
export function historyOf(filter: AlertFilter, knownSymbols: ReadonlySet<string>): HistoryFilter {
  return {
    rules: filter.rule ? [filter.rule] : [],
    severities: filter.severities,
    symbols: knownSymbols.has(filter.symbol) ? [filter.symbol] : [],
  };
}

export function shown(alerts: readonly Alert[], filter: AlertFilter, isMine: (alert: Alert) => boolean): { seen: Alert[]; muted: number } {
  const fitting = alerts.filter((alert) => fits(alert, filter) && (!filter.mine || isMine(alert)));
  if (filter.muted) return { seen: fitting, muted: 0 };
  const seen = fitting.filter((alert) => !isMuted(alert));
  return { seen, muted: fitting.length - seen.length };
}
