/** Alerts as a file: all alerts of the history that pass the filters, not only the listed ones. */
import { get, getFile } from "../client/rest";
import type { Alert } from "../client/types";
import { csv, download } from "../parts/download";
import { isMine } from "../state/mine";
import { mutes } from "../state/mutes";
import { historyOf, shown, type AlertFilter } from "./filter";

export type Kind = "csv" | "json";

/** The sidecar's own limit of alerts per file. */
const MOST = 100_000;
/** The limit where the page has to filter the alerts itself. */
const MOST_LOOKED_THROUGH = 10_000;
const TYPES: Record<Kind, string> = { csv: "text/csv", json: "application/json" };
/** The columns of the sidecar's file. */
const HEAD = ["timestamp", "symbol", "rule_type", "rule_version", "severity", "price", "description", "backfilled", "seq", "id"] as const;
const METRICS = ["price_change_5m", "price_change_15m", "price_change_1h", "volume_5m", "volume_1h", "rsi", "vcp"] as const;

function name(kind: Kind): string {
  return `alerts-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.${kind}`;
}

function textOf(kind: Kind, alerts: readonly Alert[]): string {
  if (kind === "json") return JSON.stringify(alerts);
  const rows = alerts.map((alert) => [...HEAD.map((key) => alert[key]), ...METRICS.map((key) => alert.metadata[key])]);
  return csv([...HEAD, ...METRICS], rows);
}

/** Download the alerts. Returns a note about the file for the user, or null. Raises Refusal. */
export async function exportAlerts(kind: Kind, filter: AlertFilter, knownSymbols: ReadonlySet<string>): Promise<string | null> {
  const { rules, severities, symbols } = historyOf(filter, knownSymbols);
  const query = { rule_type: rules, severity: severities, symbol: symbols, backfilled: false };
  const isPart = filter.symbol !== "" && symbols.length === 0;
  if (!isPart && !filter.mine && (filter.muted || mutes.peek().length === 0)) {
    download(name(kind), await getFile("api/alert-export", { ...query, format: kind, limit: MOST }));
    return null;
  }
  const found = await get<Alert[]>("api/alert-export", { ...query, format: "json", limit: MOST_LOOKED_THROUGH });
  const { seen } = shown(found, filter, isMine);
  download(name(kind), new Blob([textOf(kind, seen)], { type: TYPES[kind] }));
  return found.length < MOST_LOOKED_THROUGH ? null : `The file has the fitting ones of the newest ${MOST_LOOKED_THROUGH.toLocaleString("en-US")} alerts.`;
}
