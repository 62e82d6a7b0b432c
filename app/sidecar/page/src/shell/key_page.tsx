/** A dialog with all keys that work where it was opened, and with the settings of this browser. */
import type { Signal } from "@preact/signals";
import { Dialog } from "../parts/dialog";
import { clock, letterKeys, theme, type Clock, type Theme } from "../state/preferences";
import { keyGroups } from "./keys";

const NAMES: Record<string, string> = { " ": "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
const IN_TABLES: readonly (readonly [string, string])[] = [
  ["↑ ↓ Page Home End", "Move from row to row; ↑ from the first row reaches the head"],
  ["← →", "Move from column to column in the head, Enter sorts"],
  ["Enter", "Open the row"],
  ["Tab", "Leave the table"],
];

export function KeyPage({ open }: { open: Signal<boolean> }) {
  return (
    <Dialog open={open} title="Keys and choices">
      <div class="bar tight">
        <label>
          Theme{" "}
          <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value as Theme)}>
            <option value="system">of the system</option>
            <option value="light">light</option>
            <option value="dark">dark</option>
          </select>
        </label>
        <label>
          Times{" "}
          <select value={clock.value} onChange={(event) => (clock.value = event.currentTarget.value as Clock)}>
            <option value="local">local</option>
            <option value="utc">UTC</option>
          </select>
        </label>
      </div>
      {[...keyGroups.value].reverse().map(({ title, keys }) => (
        <KeyTable key={title} title={title} keys={keys.map((one) => [NAMES[one.key] ?? one.key, one.does] as const)} />
      ))}
      <KeyTable title="In tables" keys={IN_TABLES} />
      <label class="choice">
        <input
          type="checkbox"
          checked={letterKeys.value}
          onChange={(event) => (letterKeys.value = event.currentTarget.checked)}
        />
        Single letters and digits are commands
      </label>
    </Dialog>
  );
}

function KeyTable({ title, keys }: { title: string; keys: readonly (readonly [string, string])[] }) {
  return (
    <>
      <h3>{title}</h3>
      <dl class="keys">
        {keys.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
