/** Many alerts of one rule within one minute become one row: a move of the market is one event. */
import type { Alert } from "../client/types";

export const MANY = 5;

export type AlertRow =
  | { kind: "alert"; key: string; alert: Alert; inGroup: boolean }
  | { kind: "group"; key: string; newest: Alert; alerts: readonly Alert[]; open: boolean };

const groupOf = (alert: Alert): string => `${alert.rule_type} ${alert.timestamp.slice(0, 16)}`;

/** alerts: newest first. open: keys of the groups whose alerts are shown below them. */
export function rowsOf(alerts: readonly Alert[], open: ReadonlySet<string>): AlertRow[] {
  const groups = new Map<string, Alert[]>();
  for (const alert of alerts) {
    const key = groupOf(alert);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [alert]);
    else group.push(alert);
  }
  const rows: AlertRow[] = [];
  for (const alert of alerts) {
    const key = groupOf(alert);
    const group = groups.get(key);
    if (group === undefined) continue;
    if (group.length < MANY) {
      rows.push({ kind: "alert", key: alert.id, alert, inGroup: false });
      continue;
    }
    groups.delete(key);
    rows.push({ kind: "group", key, newest: alert, alerts: group, open: open.has(key) });
    if (open.has(key)) rows.push(...group.map((one): AlertRow => ({ kind: "alert", key: one.id, alert: one, inGroup: true })));
  }
  return rows;
}
