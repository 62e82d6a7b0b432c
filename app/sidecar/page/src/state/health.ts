/** The state of the screener, polled every few seconds, and the age of its data in between. */
import { computed, signal } from "@preact/signals";
import { getWhateverStatus } from "../client/rest";
import type { Health, Stage } from "../client/types";
import { nowMs } from "./now";

const EVERY_MS = 5000;

/** The last report and when it came, in ms of this machine's clock; null before the first report. */
export const health = signal<{ report: Health; atMs: number } | null>(null);
/** Whether the last poll had no answer. */
export const unanswered = signal(false);

async function ask(): Promise<void> {
  try {
    health.value = { report: await getWhateverStatus<Health>("api/health"), atMs: Date.now() };
    unanswered.value = false;
  } catch {
    unanswered.value = true;
  }
}

export function watchHealth(): void {
  void ask();
  setInterval(() => {
    if (!document.hidden) void ask();
  }, EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void ask();
  });
}

/** Seconds since the calculator last sent values; null while unknown. It grows between reports. */
export const dataAgeS = computed<number | null>(() => {
  const known = health.value;
  const sent = known?.report.stages["calculator"]?.age_s ?? null;
  return known === null || sent === null ? null : sent + Math.max(0, nowMs.value - known.atMs) / 1000;
});

const LATE: ReadonlySet<string> = new Set(["stale", "behind", "stuck", "silent"]);

/** How late a stage is, in seconds: the age of its oldest waiting input if it is stuck or behind, else of its last output. */
export function lateByS(stage: Stage): number | null {
  const waits = Object.values(stage.work).flatMap((one) => (one.waiting_s === null ? [] : [one.waiting_s]));
  return (stage.state === "stuck" || stage.state === "behind") && waits.length > 0 ? Math.max(...waits) : stage.age_s;
}

export const lateStages = computed(() =>
  Object.entries(health.value?.report.stages ?? {})
    .filter(([, stage]) => LATE.has(stage.state))
    .map(([name, stage]) => ({ name, state: stage.state, lateS: lateByS(stage) })),
);

export const downServers = computed(() =>
  Object.entries(health.value?.report.dependencies ?? {})
    .filter(([, server]) => server.state === "down")
    .map(([name, server]) => ({ name, needed: server.needed })),
);
