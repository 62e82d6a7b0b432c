/** The time of this machine, once a second; it stands still while nobody sees the page. */
import { signal } from "@preact/signals";

export const nowMs = signal(Date.now());

setInterval(() => {
  if (!document.hidden) nowMs.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => (nowMs.value = Date.now()));
