/** The user's preferences for this browser, kept in localStorage. */
import { effect, signal, type Signal } from "@preact/signals";

const PREFIX = "screener.";

/** Create a signal whose value is kept between visits. `valid` rejects values stored by an older page, or by hand. */
export function kept<Choice>(name: string, initial: Choice, valid: (value: unknown) => value is Choice): Signal<Choice> {
  const made = signal(stored(name, initial, valid));
  effect(() => storeInBrowser(name, made.value));
  onOtherTab(name, () => (made.value = stored(name, initial, valid)));
  return made;
}

/** Call `run` when another tab of this browser changes the value. */
export function onOtherTab(name: string, run: () => void): void {
  window.addEventListener("storage", (event) => {
    if (event.key === PREFIX + name) run();
  });
}

export function storeInBrowser(name: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // in a browser that stores nothing, choices last until the tab is closed
  }
}

export function stored<Choice>(name: string, initial: Choice, valid: (value: unknown) => value is Choice): Choice {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(PREFIX + name) ?? "null");
    return valid(value) ? value : initial;
  } catch {
    return initial;
  }
}

export function oneOf<Word extends string>(...words: Word[]): (value: unknown) => value is Word {
  return (value): value is Word => words.includes(value as Word);
}
export const isFlag = (value: unknown): value is boolean => typeof value === "boolean";
export const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === "string");

export type Theme = "system" | "light" | "dark";
export const theme = kept<Theme>("theme", "system", oneOf("system", "light", "dark"));
export type Clock = "local" | "utc";
export const clock = kept<Clock>("clock", "local", oneOf("local", "utc"));
/** Whether single letters and digits are commands: speech input and some keyboards need them off. */
export const letterKeys = kept("letter-keys", true, isFlag);

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(systemDark.matches);
systemDark.addEventListener("change", (event) => (systemIsDark.value = event.matches));

/** Whether the page is dark. */
export function isDark(): boolean {
  return theme.value === "system" ? systemIsDark.value : theme.value === "dark";
}

effect(() => {
  document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
});
