/** The rules, polled because another user may change them. */
import { signal } from "@preact/signals";
import { get } from "../client/rest";
import type { Rule } from "../client/types";

const EVERY_MS = 30_000;

/** By name; null before the first answer. */
export const rules = signal<readonly Rule[] | null>(null);

export async function readRules(): Promise<void> {
  try {
    const { rules: found } = await get<{ rules: Rule[] }>("api/rules");
    if (JSON.stringify(found) !== JSON.stringify(rules.peek())) rules.value = found;
  } catch {
    // the next poll may have an answer; until then the header says that the screener does not answer
  }
}

export function watchRules(): void {
  void readRules();
  setInterval(() => {
    if (!document.hidden) void readRules();
  }, EVERY_MS);
}
