/** Keys of the page and of its views. What is in force is listed on the page of keys, so that no key is secret. */
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { letterKeys } from "../state/preferences";

export interface Key {
  /** As KeyboardEvent.key says it. */
  key: string;
  does: string;
  run(): void;
}

export interface KeyGroup {
  title: string;
  keys: readonly Key[];
}

/** In force now; the last group is asked first. */
export const keyGroups = signal<readonly KeyGroup[]>([]);

/** Keys while a component is shown. `run` may close over anything: the newest is called. */
export function useKeys(title: string, keys: readonly Key[]): void {
  const group = useRef<{ title: string; keys: readonly Key[] }>({ title, keys }).current;
  group.keys = keys;
  // before the browser paints: a key of what is in sight is in force
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
