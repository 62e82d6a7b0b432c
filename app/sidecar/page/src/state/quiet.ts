/** Hours in which the page makes no sound and shows no desktop notification. It still lists alerts. */
import { personal } from "./personal";

export interface Quiet {
  enabled: boolean;
  /** HH:MM in the time of this machine; an end before the start is on the next day. */
  start: string;
  end: string;
}

export const isTimeOfDay = (value: unknown): value is string => typeof value === "string" && /^([01][0-9]|2[0-3]):[0-5][0-9]$/.test(value);

function isQuietHours(value: unknown): value is Quiet {
  const given = value as Partial<Quiet> | null;
  return typeof given?.enabled === "boolean" && isTimeOfDay(given.start) && isTimeOfDay(given.end);
}

export const quietHours = personal<Quiet>("quiet_hours", { enabled: false, start: "22:00", end: "07:00" }, isQuietHours, (theirs) => theirs);

export function isQuiet(at: Date = new Date()): boolean {
  const { enabled, start, end } = quietHours.value;
  const now = [at.getHours(), at.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  return enabled && (start <= end ? start <= now && now < end : now >= start || now < end);
}
