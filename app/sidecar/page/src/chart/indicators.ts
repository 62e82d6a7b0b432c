/** Indicators over bars, as the screener computes them; null until they are warmed up. All have one value per bar. */
import type { Bar } from "./bars";

export type Series = (number | null)[];

const closes = (bars: readonly Bar[]): number[] => bars.map((bar) => bar.close);

/** Exponential moving average, seeded with the mean of the first n known values. */
export function ema(values: readonly (number | null)[], n: number): Series {
  const result: Series = [];
  let [sum, count] = [0, 0];
  let last: number | null = null;
  for (const value of values) {
    if (value === null) {
      result.push(null);
      continue;
    }
    count += 1;
    if (last !== null) last += (value - last) * (2 / (n + 1));
    else {
      sum += value;
      if (count === n) last = sum / n;
    }
    result.push(last);
  }
  return result;
}

export const emaOfBars = (bars: readonly Bar[], n: number): Series => ema(closes(bars), n);

export interface Bands {
  upper: Series;
  middle: Series;
  lower: Series;
}

/** Bollinger bands: the mean of the last n closes, and their population standard deviation times `deviations` around it. */
export function bollinger(bars: readonly Bar[], n = 20, deviations = 2): Bands {
  const bands: Bands = { upper: [], middle: [], lower: [] };
  bars.forEach((_, i) => {
    const window = bars.slice(Math.max(0, i + 1 - n), i + 1);
    if (window.length < n) {
      for (const series of [bands.upper, bands.middle, bands.lower]) series.push(null);
      return;
    }
    const mean = window.reduce((sum, bar) => sum + bar.close, 0) / n;
    const spread = deviations * Math.sqrt(window.reduce((sum, bar) => sum + (bar.close - mean) ** 2, 0) / n);
    bands.upper.push(mean + spread);
    bands.middle.push(mean);
    bands.lower.push(mean - spread);
  });
  return bands;
}

/** VWAP since 00:00 UTC; null before the first whole day of the bars. */
export function vwapOfDay(bars: readonly Bar[]): Series {
  const DAY_MS = 86_400_000;
  let day: number | null = null;
  let [turnover, volume] = [0, 0];
  return bars.map((bar) => {
    const its = Math.floor(bar.openMs / DAY_MS);
    if (bar.openMs % DAY_MS === 0) [day, turnover, volume] = [its, 0, 0];
    if (day !== its) return null;
    turnover += bar.turnover;
    volume += bar.volume;
    return volume > 0 ? turnover / volume : null;
  });
}

/** Wilder's relative strength index. */
export function rsi(bars: readonly Bar[], n = 14): Series {
  let [up, down] = [0, 0];
  return bars.map((bar, i) => {
    const before = bars[i - 1];
    if (before === undefined) return null;
    const change = bar.close - before.close;
    const [gain, loss] = [Math.max(change, 0), Math.max(-change, 0)];
    if (i <= n) {
      up += gain / n;
      down += loss / n;
      if (i < n) return null;
    } else {
      up += (gain - up) / n;
      down += (loss - down) / n;
    }
    return up + down === 0 ? 0 : (100 * up) / (up + down);
  });
}

export interface Macd {
  line: Series;
  signal: Series;
  histogram: Series;
}

/** MACD. As in TA-Lib, the fast average starts at the same bar as the slow one, seeded with the closes just before it. */
export function macd(bars: readonly Bar[], fast = 12, slow = 26, smooth = 9): Macd {
  const known = closes(bars);
  const skipped = slow - fast;
  const quick = [...known.slice(0, skipped).map(() => null), ...ema(known.slice(skipped), fast)];
  const steady = ema(known, slow);
  const line = steady.map((value, i) => (value === null ? null : (quick[i] ?? 0) - value));
  const signal = ema(line, smooth);
  return { line, signal, histogram: line.map((value, i) => (value === null || signal[i] == null ? null : value - signal[i])) };
}

export interface Cloud {
  conversion: Series;
  base: Series;
  spanA: Series;
  spanB: Series;
}

/** Ichimoku 9/26/52; the cloud at a bar is the one computed 26 bars earlier. */
export function ichimoku(bars: readonly Bar[]): Cloud {
  const middle = (n: number): Series =>
    bars.map((_, i) => {
      if (i + 1 < n) return null;
      const window = bars.slice(i + 1 - n, i + 1);
      return (Math.max(...window.map((bar) => bar.high)) + Math.min(...window.map((bar) => bar.low))) / 2;
    });
  const displaced = (series: Series): Series => [...Array<null>(Math.min(26, series.length)).fill(null), ...series].slice(0, series.length);
  const [conversion, base, wide] = [middle(9), middle(26), middle(52)];
  const spanA = conversion.map((value, i) => (value === null || base[i] == null ? null : (value + base[i]) / 2));
  return { conversion, base, spanA: displaced(spanA), spanB: displaced(wide) };
}
