/** The bars and alerts of one symbol and interval: read, followed live, and extended into the past. */
import { signal } from "@preact/signals";
import { get, retryAfterMs, wordsOf } from "../client/rest";
import { live } from "../client/live";
import type { Alert, AlertPage, Candle } from "../client/types";
import { barOf, FormingBar, lengthMs, merged, minuteOf, startOf, type Bar, type Interval, type Kline } from "./bars";

const PAGE_BARS = 500;
const MOST_BARS = 6000;
const PAGES_TO_A_TIME = 10;
const MOST_ALERTS = 1000;
/** How long to wait before reading the bars missing before a live bar: the sidecar may still be storing them. */
const READ_AGAIN_MS = 2000;

export type Change = "all" | "last";

export class ChartData {
  bars: Bar[] = [];
  readonly fault = signal<string | null>(null);
  /** Alerts within the bars, newest first. */
  readonly alerts = signal<readonly Alert[]>([]);
  readonly reading = signal(true);
  /** Whether the stored history has no older bars. */
  readonly whole = signal(false);
  readonly #abort = new AbortController();
  readonly #forming: FormingBar;
  #alertsSince: number | null = null;
  #withShadow = false;
  #again: number | undefined;

  constructor(
    readonly symbol: string,
    readonly interval: Interval,
    readonly changed: (change: Change) => void,
  ) {
    this.#forming = new FormingBar(interval);
  }

  stop(): void {
    clearTimeout(this.#again);
    this.#abort.abort();
  }

  /** Read the newest bars, and the minutes of the one that is forming. Call it again after a reconnect. */
  async readNewest(): Promise<void> {
    clearTimeout(this.#again);
    const refused = await this.#trying(async () => {
      const newest = await this.#klines(this.interval, {});
      const last = newest.at(-1);
      if (last !== undefined && this.interval !== "1m") {
        const minutes = await this.#klines("1m", { startTime: last.openMs, limit: 1500 });
        for (const minute of minutes) this.#forming.take(minute);
      }
      this.bars = merged(this.bars, newest);
      this.changed("all");
      await this.#readAlerts();
    });
    const waitMs = retryAfterMs(refused);
    if (waitMs !== null) this.#readAgainIn(waitMs);
  }

  #readAgainIn(waitMs: number): void {
    clearTimeout(this.#again);
    this.#again = window.setTimeout(() => void this.readNewest(), waitMs);
  }

  /** Read a page of bars before the oldest one. */
  async readOlder(): Promise<void> {
    const oldest = this.bars[0];
    if (oldest === undefined || this.reading.value || this.whole.value || this.bars.length > MOST_BARS) return;
    await this.#trying(async () => {
      const older = await this.#klines(this.interval, { endTime: oldest.openMs - 1 });
      if (older.length === 0) this.whole.value = true;
      this.bars = merged(older, this.bars);
      this.changed("all");
      await this.#readAlerts();
    });
  }

  /** Read older bars until they cover this time. */
  async readBackTo(ms: number): Promise<void> {
    for (let page = 0; page < PAGES_TO_A_TIME; page++) {
      const oldest = this.bars[0];
      if (oldest === undefined || oldest.openMs <= ms || this.whole.value) return;
      await this.readOlder();
    }
  }

  takeCandles(candles: readonly Candle[]): void {
    // where nothing is stored yet, a live candle is the first one, and the past is read once more; a fault waits its time
    const empty = !this.reading.value && this.fault.value === null;
    let before = this.bars.at(-1)?.openMs ?? (empty ? -Infinity : Infinity);
    for (const candle of candles) {
      if (candle.symbol !== this.symbol) continue;
      const bar = this.#forming.take(minuteOf(candle));
      if (bar === null || bar.openMs < before) continue;
      if (bar.openMs > before + lengthMs(this.interval)) this.#readAgainIn(READ_AGAIN_MS);
      if (bar.openMs === before) this.bars[this.bars.length - 1] = bar;
      else this.bars.push(bar);
      before = bar.openMs;
      this.changed("last");
    }
  }

  takeAlerts(more: readonly Alert[]): void {
    const known = new Set(this.alerts.value.map((alert) => alert.id));
    const added = more.filter((alert) => alert.symbol === this.symbol && !known.has(alert.id));
    if (added.length > 0) this.alerts.value = [...added, ...this.alerts.value].sort((one, other) => (one.timestamp < other.timestamp ? 1 : -1));
  }

  /** Show or hide the alerts of shadow rules. No channel sends these alerts: call it again for newer ones. */
  async showShadow(shown: boolean): Promise<void> {
    this.#withShadow = shown;
    if (!shown) this.alerts.value = this.alerts.value.filter((alert) => alert.shadow !== true);
    else if (this.#alertsSince !== null) {
      try {
        await this.#readAlertsOf({ since: iso(this.#alertsSince), shadow: true });
      } catch (error) {
        if (!this.#abort.signal.aborted) this.fault.value = wordsOf(error);
      }
    }
  }

  /** The alerts that fired within the bar. */
  alertsOf(openMs: number): Alert[] {
    return this.alerts.value.filter((alert) => startOf(Date.parse(alert.timestamp), this.interval) === openMs);
  }

  async #readAlerts(): Promise<void> {
    const from = this.bars[0]?.openMs;
    if (from === undefined || (this.#alertsSince !== null && this.#alertsSince <= from)) return;
    const between = { since: iso(from), until: iso(this.#alertsSince) };
    await this.#readAlertsOf(between);
    if (this.#withShadow) await this.#readAlertsOf({ ...between, shadow: true });
    this.#alertsSince = from;
  }

  async #readAlertsOf(query: { since: string | null; until?: string | null; shadow?: true }): Promise<void> {
    const page = await get<AlertPage>("api/alerts", { symbol: this.symbol, limit: MOST_ALERTS, ...query }, this.#abort.signal);
    if (query.shadow !== true || this.#withShadow) this.takeAlerts(page.alerts);
  }

  async #klines(interval: Interval, query: { startTime?: number; endTime?: number; limit?: number }): Promise<Bar[]> {
    const found = await get<Kline[]>("api/klines", { symbol: this.symbol, interval, limit: PAGE_BARS, ...query }, this.#abort.signal);
    return found.map(barOf);
  }

  /** Run `read` and show its fault. Returns the error, or null. */
  async #trying(read: () => Promise<void>): Promise<unknown> {
    this.reading.value = true;
    this.fault.value = null;
    let refused: unknown = null;
    try {
      await read();
    } catch (error) {
      if (this.#abort.signal.aborted) return null;
      refused = error;
      this.fault.value = wordsOf(error);
    }
    this.reading.value = false;
    return refused;
  }
}

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

let followed: { symbol: string; take: (candles: readonly Candle[]) => void } | null = null;

live.add({
  name: "candles",
  wanted: () => (followed === null ? null : { symbols: [followed.symbol], interval_ms: 250 }),
  heard: (message) => {
    if (message.type === "snapshot" || message.type === "update") followed?.take(message.data as Candle[]);
  },
});

/** Call `take` with the live candles of one symbol. Returns a function that stops it. */
export function follow(symbol: string, take: (candles: readonly Candle[]) => void): () => void {
  const mine = { symbol, take };
  followed = mine;
  live.subscribe("candles");
  return () => {
    if (followed !== mine) return;
    followed = null;
    live.subscribe("candles");
  };
}
