/** Alerts: those of now as they come, and older ones as far as they were asked for. In order of time, newest first. */
import { batch, computed, signal } from "@preact/signals";
import type { Heard } from "../client/connection";
import { live } from "../client/live";
import { get } from "../client/rest";
import type { Alert, AlertPage } from "../client/types";
import { notify } from "../parts/notices";

const KEPT = 5000;
const PAGE = 200;
/** A storm of alerts is shown in steps: each step draws once. */
const COLLECTED_FOR_MS = 200;
/** An alert of an earlier time is history, however late it arrives. */
const NEW_FOR_MS = 120_000;
const MARKED_FOR_MS = 3000;

const known = new Map<string, Alert>();
const inOrder = signal<readonly Alert[]>([]);
export const alerts = computed(() => inOrder.value);
/** Ids of those that came just now. */
export const justCame = signal<ReadonlySet<string>>(new Set());
/** Whether the first page of the history has come. */
export const historyRead = signal(false);

type Listener = (alerts: readonly Alert[]) => void;
const listeners = new Set<Listener>();
/** Hear of alerts that fire now, several at a time. Returns how to stop. */
export function onNewAlerts(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Where to resume: the newest alert by seq, or the seq of the subscription before there was one. */
let newest: { seq: number; id?: string } | null = null;
let collected: Alert[] = [];
let collecting: number | undefined;

const newerFirst = (one: Alert, other: Alert): number =>
  one.timestamp === other.timestamp ? other.seq - one.seq : one.timestamp < other.timestamp ? 1 : -1;

function add(more: readonly Alert[]): void {
  for (const alert of more) known.set(alert.id, alert);
  const all = [...known.values()].sort(newerFirst);
  for (const alert of all.slice(KEPT)) known.delete(alert.id);
  inOrder.value = all.slice(0, KEPT);
}

function showCollected(): void {
  collecting = undefined;
  const came = collected.filter((alert) => !known.has(alert.id));
  collected = [];
  const fresh = came.filter((alert) => Date.now() - Date.parse(alert.timestamp) < NEW_FOR_MS);
  batch(() => {
    add(came);
    if (fresh.length > 0) justCame.value = new Set([...justCame.peek(), ...fresh.map((alert) => alert.id)]);
  });
  if (fresh.length === 0) return;
  for (const listener of listeners) listener(fresh);
  window.setTimeout(() => {
    const marked = new Set(justCame.peek());
    for (const alert of fresh) marked.delete(alert.id);
    justCame.value = marked;
  }, MARKED_FOR_MS);
}

const GAPS: Record<string, string> = {
  too_old: "While the connection was lost more alerts fired than the screener keeps: some are missing in the list.",
  began_anew: "The screener began a new sequence of alerts: some of the earlier ones may be missing in the list.",
};

function heard(message: Heard): void {
  if (message.type === "alert") {
    const alert = message.data as Alert;
    if (newest === null || alert.seq > newest.seq) newest = { seq: alert.seq, id: alert.id };
    collected.push(alert);
    collecting ??= window.setTimeout(showCollected, COLLECTED_FOR_MS);
  } else if (message.type === "subscribed" && newest === null) {
    newest = { seq: message.seq ?? 0 };
  } else if (message.type === "gap") {
    const { reason } = message.data as { reason: string };
    if (reason === "began_anew") newest = null;
    notify({ id: "gap", text: GAPS[reason] ?? "Some alerts may be missing in the list." });
  }
}

live.add({
  name: "alerts",
  wanted: () => (newest === null ? {} : { since: newest.seq, ...(newest.id === undefined ? {} : { since_id: newest.id }) }),
  heard,
});

/** What the sidecar can filter by. */
export interface HistoryFilter {
  rules: readonly string[];
  severities: readonly string[];
  symbols: readonly string[];
}
const EVERYTHING: HistoryFilter = { rules: [], severities: [], symbols: [] };

interface Reach {
  /** Complete from this time on. */
  since: string;
  /** Null: there is nothing older. */
  cursor: string | null;
}
const reaches = signal<ReadonlyMap<string, Reach>>(new Map());
const keyOf = (filter: HistoryFilter): string => JSON.stringify([filter.rules, filter.severities, filter.symbols]);

/** From when on the alerts of a filter are complete here; "" is for all time, null for not known. */
export function completeSince(filter: HistoryFilter): string | null {
  const found = [reaches.value.get(keyOf(filter)), reaches.value.get(keyOf(EVERYTHING))].filter((one) => one !== undefined);
  if (found.length === 0) return null;
  return found.some((one) => one.cursor === null) ? "" : found.map((one) => one.since).sort()[0] ?? null;
}

/** Read a page of older alerts. Raises Refusal. */
export async function readOlder(filter: HistoryFilter): Promise<void> {
  const key = keyOf(filter);
  const reach = reaches.peek().get(key);
  if (reach?.cursor === null) return;
  const page = await get<AlertPage>("api/alerts", {
    limit: PAGE,
    backfilled: false,
    rule_type: filter.rules,
    severity: filter.severities,
    symbol: filter.symbols,
    cursor: reach?.cursor,
  });
  batch(() => {
    add(page.alerts);
    const since = page.alerts.at(-1)?.timestamp ?? reach?.since ?? "";
    reaches.value = new Map(reaches.peek()).set(key, { since, cursor: page.next_cursor });
  });
}

/** Show the newest alerts; then follow those that come. */
export async function startAlerts(): Promise<void> {
  try {
    await readOlder(EVERYTHING);
  } catch {
    // the view reads the history again when it needs it; the alerts of now come anyway
  }
  const last = [...known.values()].reduce<Alert | null>((most, one) => (most === null || one.seq > most.seq ? one : most), null);
  if (newest === null && last !== null) newest = { seq: last.seq, id: last.id };
  historyRead.value = true;
}

/** Alerts of the last full minute. */
export function perMinute(nowMs: number): number {
  const since = new Date(nowMs - 60_000).toISOString();
  const index = inOrder.value.findIndex((alert) => alert.timestamp < since);
  return index < 0 ? inOrder.value.length : index;
}
