/** The page's one connection for what it shows now. It follows the session: whoever signs in is known to it at once. */
import { effect, untracked } from "@preact/signals";
import { Connection } from "./connection";
import { session } from "./session";

export const live = new Connection();

export function startLive(): void {
  let known = session.value?.token ?? null;
  live.start();
  effect(() => {
    const token = session.value?.token ?? null;
    if (token === known) return;
    known = token;
    untracked(() => live.again());
  });
}
