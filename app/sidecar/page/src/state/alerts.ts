/** The alerts that the page knows: new ones as they fire, and the history as far as it was read. Newest first. */
import { batch, computed, signal } from "@preact/signals";
import type { Heard } from "../client/connection";
import { live } from "../client/live";
import { get } from "../client/rest";
import type { Alert, AlertPage } from "../client/types";
import { notify } from "../parts/notices";

const KEPT = 5000;
/** The seq before that of the first alert. */
const BEFORE_ALL = -1;
const PAGE = 200;
/** Alerts that arrive within this time are shown together, so that a storm of alerts causes few renders. */
const COLLECTED_FOR_MS = 200;
/** An older alert counts as history, even if it arrives only now. */
const NEW_FOR_MS = 120_000;
const MARKED_FOR_MS = 3000;

const known = new Map<string, Alert>();
const inOrder = signal<readonly Alert[]>([]);
export const alerts = computed(() => inOrder.value);
/** Ids of the alerts that just arrived. */
export const justCame = signal<ReadonlySet<string>>(new Set());
/** Whether the first page of the history was read, or failed to be read. */
export const historyRead = signal(false);

type Listener = (alerts: readonly Alert[]) => void;
const listeners = new Set<Listener>();
/** Call `listener` with new alerts, several at a time. Returns a function that stops it. */
export function onNewAlerts(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Where to resume: the newest alert by seq. While there is no alert, before the first of all, or, if the history could
 * not be read in time, the seq of the subscription. */
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

/** The filters that the sidecar can apply to the history. */
export interface HistoryFilter {
  rules: readonly string[];
  severities: readonly string[];
  symbols: readonly string[];
}
const EVERYTHING: HistoryFilter = { rules: [], severities: [], symbols: [] };

interface Reach {
  /** The time from which on the alerts are complete. */
  since: string;
  /** Where the next page starts; null if there is nothing older. */
  cursor: string | null;
}
const reaches = signal<ReadonlyMap<string, Reach>>(new Map());
const keyOf = (filter: HistoryFilter): string => JSON.stringify([filter.rules, filter.severities, filter.symbols]);

/** The time from which on the page knows all alerts of a filter; "" for all time, null if unknown. */
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

/** Read the newest alerts, and set where the subscription resumes. */
export async function startAlerts(): Promise<void> {
  try {
    await readOlder(EVERYTHING);
    if (known.size === 0) {
      // an alert that fires before the subscription, and is not stored yet, would be missed without a place to resume;
      // the alerts of a backfill are not shown, and there may be many, so that the newest of them is such a place
      const { alerts: backfilled } = await get<AlertPage>("api/alerts", { limit: 1 });
      reaches.value = new Map();
      await readOlder(EVERYTHING);
      newest ??= { seq: backfilled[0] === undefined ? BEFORE_ALL : backfilled[0].seq - 1 };
    }
  } catch {
    // the view reads the history again when it needs it; new alerts come anyway
  }
  const last = [...known.values()].reduce<Alert | null>((most, one) => (most === null || one.seq > most.seq ? one : most), null);
  if (newest === null && last !== null) newest = { seq: last.seq, id: last.id };
  historyRead.value = true;
}

/** The number of alerts in the 60 seconds before `nowMs`. */
export function perMinute(nowMs: number): number {
  const since = new Date(nowMs - 60_000).toISOString();
  const index = inOrder.value.findIndex((alert) => alert.timestamp < since);
  return index < 0 ? inOrder.value.length : index;
}
