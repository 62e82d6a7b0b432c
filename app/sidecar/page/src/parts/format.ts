/** Numbers as en-US text without exponents, and times as local or UTC text. A dash stands for null. */
import type { Value } from "../client/types";
import { clock } from "../state/preferences";

export const NOTHING = "–";
const MOST_DECIMALS = 12;
const PRICE_DIGITS = 6;

const formats = new Map<string, Intl.NumberFormat>();
function format(decimals: number, options: Intl.NumberFormatOptions = {}): Intl.NumberFormat {
  const key = `${decimals}${options.notation ?? ""}${options.signDisplay ?? ""}`;
  let found = formats.get(key);
  if (found === undefined) {
    found = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals, ...options });
    formats.set(key, found);
  }
  return found;
}

type Maybe = Value | undefined;
const missing = (value: Maybe): value is null | undefined => value === null || value === undefined || !Number.isFinite(value);

export function number(value: Maybe, decimals = 2): string {
  return missing(value) ? NOTHING : format(decimals).format(value);
}

/** The decimals that show six digits of this price: they change only with its magnitude. */
export function priceDecimals(price: number): number {
  if (price === 0) return 2;
  const whole = Math.floor(Math.log10(Math.abs(price))) + 1;
  return Math.min(MOST_DECIMALS, Math.max(whole >= PRICE_DIGITS - 1 ? 1 : 2, PRICE_DIGITS - whole));
}

export function price(value: Maybe): string {
  return missing(value) ? NOTHING : format(priceDecimals(value)).format(value);
}

/** For example 1.2K, 3.4M, 5.6B. */
export function amount(value: Maybe): string {
  if (missing(value)) return NOTHING;
  return Math.abs(value) < 1000 ? format(value % 1 === 0 ? 0 : 1).format(value) : format(1, { notation: "compact" }).format(value);
}

export function percent(value: Maybe, decimals = 2): string {
  return missing(value) ? NOTHING : `${format(decimals, { signDisplay: "exceptZero" }).format(value)} %`;
}

export function share(value: Maybe): string {
  return missing(value) ? NOTHING : `${format(0).format(value * 100)} %`;
}

/** For example 45 s, 3 min, 2 h 5 min, 4 d. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.round(hours / 24)} d`;
}

const two = (part: number): string => String(part).padStart(2, "0");

function partsOf(ms: number): { date: string; time: string } {
  const at = new Date(clock.value === "utc" ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000);
  return {
    date: `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`,
    time: `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`,
  };
}

const msOf = (time: string | number): number => (typeof time === "number" ? time : Date.parse(time));

/** `14:05:12` for the present day, `02-27 14:05` for another: within a day the width is the same. */
export function shortTime(time: string | number, nowMs: number): string {
  const { date, time: clockTime } = partsOf(msOf(time));
  return date === partsOf(nowMs).date ? clockTime : `${date.slice(5)} ${clockTime.slice(0, 5)}`;
}

export function longTime(time: string | number): string {
  const { date, time: clockTime } = partsOf(msOf(time));
  return `${date} ${clockTime} ${clockName()}`;
}

export function clockName(): string {
  return clock.value === "utc" ? "UTC" : "local";
}
