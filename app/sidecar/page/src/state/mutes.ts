/** Symbols and rules whose alerts the user has muted. */
import { computed } from "@preact/signals";
import type { Alert } from "../client/types";
import { nowMs } from "./now";
import { personal } from "./personal";

export interface Mute {
  kind: "symbol" | "rule";
  name: string;
  /** RFC 3339; null: until the user ends it. */
  until: string | null;
}

function isMutes(value: unknown): value is Mute[] {
  return (
    Array.isArray(value) &&
    value.every(
      (one: Partial<Mute> | null) =>
        typeof one?.name === "string" &&
        (one.kind === "symbol" || one.kind === "rule") &&
        (one.until === null || !Number.isNaN(Date.parse(one.until ?? ""))),
    )
  );
}

const MOST = 500;

const isSame = (one: Mute, other: Mute): boolean => one.kind === other.kind && one.name === other.name;

const chosen = personal<Mute[]>("mutes", [], isMutes, (theirs, mine) =>
  [...theirs, ...mine.filter((one) => !theirs.some((other) => isSame(one, other)))].slice(-MOST),
);

/** The mutes that have not expired. */
export const mutes = computed<readonly Mute[]>(() => chosen.value.filter((one) => one.until === null || Date.parse(one.until) > nowMs.value));

export function mute(kind: Mute["kind"], name: string, untilMs: number | null = null): void {
  const made: Mute = { kind, name, until: untilMs === null ? null : new Date(untilMs).toISOString() };
  chosen.value = [...mutes.peek().filter((one) => !isSame(one, made)), made].slice(-MOST);
}

export function unmute(kind: Mute["kind"], name: string): void {
  chosen.value = mutes.peek().filter((one) => one.kind !== kind || one.name !== name);
}

export function isMuted(alert: Pick<Alert, "symbol" | "rule_type">): boolean {
  return mutes.value.some((one) => one.name === (one.kind === "symbol" ? alert.symbol : alert.rule_type));
}
