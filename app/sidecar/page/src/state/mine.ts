/** The alerts that the signed-in user selected in their settings. */
import { effect, signal } from "@preact/signals";
import { get } from "../client/rest";
import { session } from "../client/session";
import type { Alert } from "../client/types";

interface Selections {
  selected_alerts: string[];
  subscriptions: { rule_type: string; symbol: string }[];
}

/** Null while nobody is signed in, or the settings are not known. */
export const selections = signal<Selections | null>(null);

export async function readSelections(): Promise<void> {
  try {
    selections.value = session.peek() === null ? null : await get<Selections>("api/settings");
  } catch {
    selections.value = null;
  }
}

export function followSelections(): void {
  effect(() => {
    void session.value;
    void readSelections();
  });
}

export function isMine(alert: Pick<Alert, "symbol" | "rule_type">): boolean {
  const found = selections.value;
  if (found === null) return false;
  const any = (word: string, name: string): boolean => word === "*" || word === name;
  return (
    found.selected_alerts.some((rule) => any(rule, alert.rule_type)) ||
    found.subscriptions.some((one) => any(one.rule_type, alert.rule_type) && any(one.symbol, alert.symbol))
  );
}
