/** The time of this machine, updated once a second; it stands still while the page is hidden. */
import { signal } from "@preact/signals";

export const nowMs = signal(Date.now());

setInterval(() => {
  if (!document.hidden) nowMs.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => (nowMs.value = Date.now()));
