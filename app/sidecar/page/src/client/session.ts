/** The session of this tab: its token. It is kept while the tab lives, and dropped when it expires or is rejected. */
import { computed, signal } from "@preact/signals";

const KEPT_AS = "screener.token";
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const RAN_OUT = "Your token ran out. Sign in again to go on with your settings.";

export interface Session {
  token: string;
  user: string;
  expiresAtMs: number;
  claims: Readonly<Record<string, unknown>>;
}

export const session = signal<Session | null>(null);
/** Why the last session ended, as a message for the user; null while signed in or never signed in. */
export const signedOutBecause = signal<string | null>(null);
export const isAdmin = computed(() => session.value?.claims["role"] === "admin");

let timer: number | undefined;

/** Read the claims of a token without verifying them: only the sidecar can. Returns null for an invalid token. */
export function read(token: string): Session | null {
  try {
    const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims !== "object" || claims === null) return null;
    const { sub, exp } = claims as Record<string, unknown>;
    if (typeof sub !== "string" || typeof exp !== "number") return null;
    return { token, user: sub, expiresAtMs: exp * 1000, claims: claims as Record<string, unknown> };
  } catch {
    return null;
  }
}

/** Sign in with a token. Returns what is wrong with it, or null on success. */
export function signIn(token: string): string | null {
  const found = read(token.trim());
  if (found === null) return "This is not a token with a user (sub) and an end (exp).";
  if (found.expiresAtMs <= Date.now()) return "This token has run out.";
  sessionStorage.setItem(KEPT_AS, found.token);
  signedOutBecause.value = null;
  session.value = found;
  watchExpiry(found);
  return null;
}

export function signOut(because: string | null = null): void {
  clearTimeout(timer);
  sessionStorage.removeItem(KEPT_AS);
  if (session.value === null) return;
  signedOutBecause.value = because;
  session.value = null;
}

function watchExpiry(of: Session): void {
  clearTimeout(timer);
  const leftMs = of.expiresAtMs - Date.now();
  timer = window.setTimeout(
    () => (leftMs > LONGEST_TIMER_MS ? watchExpiry(of) : signOut(RAN_OUT)),
    Math.min(leftMs, LONGEST_TIMER_MS),
  );
}

const kept = sessionStorage.getItem(KEPT_AS);
if (kept !== null && signIn(kept) !== null) {
  sessionStorage.removeItem(KEPT_AS);
  signedOutBecause.value = RAN_OUT;
}
