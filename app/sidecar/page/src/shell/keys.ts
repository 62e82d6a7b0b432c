/** Keyboard shortcuts of the page and its views. The page of keys lists all active ones, so that no key is hidden. */
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { letterKeys } from "../state/preferences";

export interface Key {
  /** As in KeyboardEvent.key. */
  key: string;
  does: string;
  run(): void;
}

export interface KeyGroup {
  title: string;
  keys: readonly Key[];
}

/** The active groups; for a key the last group comes first. */
export const keyGroups = signal<readonly KeyGroup[]>([]);

/** Activate keys while a component is shown. Of `keys` the newest rendered ones are used, so `run` may be a closure. */
export function useKeys(title: string, keys: readonly Key[]): void {
  const group = useRef<{ title: string; keys: readonly Key[] }>({ title, keys }).current;
  group.keys = keys;
  // before the browser paints: the keys of a visible component must already work
  useLayoutEffect(() => {
    keyGroups.value = [...keyGroups.peek(), group];
    return () => {
      keyGroups.value = keyGroups.peek().filter((one) => one !== group);
    };
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target.shadowRoot !== null || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

export function listenForKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]") !== null) return;
    if (!letterKeys.value && event.key.length === 1 && event.key !== "?") return;
    for (const group of [...keyGroups.peek()].reverse()) {
      const found = group.keys.find((one) => one.key === event.key);
      if (found === undefined) continue;
      event.preventDefault();
      found.run();
      return;
    }
  });
}
