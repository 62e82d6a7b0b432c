/** The page's connection for live data. It reconnects whenever the session's token changes. */
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
