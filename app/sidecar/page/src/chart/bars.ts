/** Bars of an interval, made from the sidecar's stored klines and from live minutes. */
import type { Candle } from "../client/types";

export const INTERVALS = ["1m", "5m", "15m", "1h", "4h", "1d"] as const;
export type Interval = (typeof INTERVALS)[number];
const MINUTE_MS = 60_000;
const MINUTES: Record<Interval, number> = { "1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440 };

export const lengthMs = (interval: Interval): number => MINUTES[interval] * MINUTE_MS;
export const startOf = (ms: number, interval: Interval): number => ms - (ms % lengthMs(interval));

export interface Bar {
  openMs: number;
  open: number;
  high: number;
  low: number;
  close: number;
  /** In the base asset. */
  volume: number;
  /** In the quote asset. */
  turnover: number;
}

/** A kline as the exchange's array; only the first eight values are used. */
export type Kline = [number, string, string, string, string, string, number, string, ...unknown[]];

export function barOf(kline: Kline): Bar {
  const [openMs, open, high, low, close, volume, , turnover] = kline;
  return { openMs, open: Number(open), high: Number(high), low: Number(low), close: Number(close), volume: Number(volume), turnover: Number(turnover) };
}

export function minuteOf(candle: Candle): Bar {
  return {
    openMs: Date.parse(candle.open_time),
    open: candle.open,
    high: candle.high,
    low: candle.low,
    close: candle.close,
    volume: candle.volume,
    turnover: candle.quote_volume,
  };
}

/** Combine minutes, in order of time, into one bar; null without minutes. */
export function combined(minutes: readonly Bar[], openMs: number): Bar | null {
  const [first] = minutes;
  const last = minutes.at(-1);
  if (first === undefined || last === undefined) return null;
  const made: Bar = { ...first, openMs, close: last.close, volume: 0, turnover: 0 };
  for (const minute of minutes) {
    made.high = Math.max(made.high, minute.high);
    made.low = Math.min(made.low, minute.low);
    made.volume += minute.volume;
    made.turnover += minute.turnover;
  }
  return made;
}

/** Merge lists of bars by open time; where two bars have the same time, the later list wins. */
export function merged(...lists: readonly (readonly Bar[])[]): Bar[] {
  const byTime = new Map<number, Bar>();
  for (const list of lists) for (const bar of list) byTime.set(bar.openMs, bar);
  return [...byTime.values()].sort((one, other) => one.openMs - other.openMs);
}

/** Open times between the first bar and the last that have no bar. Of a longer gap only the first `most` are returned. */
export function missingBetween(bars: readonly Bar[], interval: Interval, most: number): number[] {
  const step = lengthMs(interval);
  const missing: number[] = [];
  for (let i = 1; i < bars.length; i++) {
    const [before, after] = [bars[i - 1]?.openMs ?? 0, bars[i]?.openMs ?? 0];
    for (let at = before + step, n = 0; at < after && n < most; at += step, n++) missing.push(at);
  }
  return missing;
}

/** The minutes of the bar that is forming. An update of a minute replaces it, so nothing counts twice. */
export class FormingBar {
  readonly #interval: Interval;
  readonly #minutes = new Map<number, Bar>();
  #openMs = 0;

  constructor(interval: Interval) {
    this.#interval = interval;
  }

  /** Add a minute. Returns its bar with all minutes so far, or null for a minute of an earlier bar. */
  take(minute: Bar): Bar | null {
    const openMs = startOf(minute.openMs, this.#interval);
    if (openMs < this.#openMs) return null;
    if (openMs > this.#openMs) this.#minutes.clear();
    this.#openMs = openMs;
    this.#minutes.set(minute.openMs, minute);
    return combined([...this.#minutes.values()].sort((one, other) => one.openMs - other.openMs), openMs);
  }
}
