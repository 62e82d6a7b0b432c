/** The field for the symbol of the chart. It suggests the known names. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../client/rest";

const known = signal<readonly string[]>([]);

async function readSymbols(): Promise<void> {
  try {
    const { symbols } = await get<{ symbols: { symbol: string }[] }>("api/symbols");
    known.value = symbols.map((one) => one.symbol);
  } catch {
    // without the list a name can still be typed
  }
}

/** Return the symbol `step` places after another, by name. */
export function neighbour(symbol: string, step: number): string {
  const names = known.value;
  const at = names.indexOf(symbol);
  return names[(at + step + names.length) % names.length] ?? symbol;
}

export function SymbolChoice({ symbol, onChosen }: { symbol: string; onChosen(symbol: string): void }) {
  useEffect(() => void readSymbols(), []);
  function submit(event: SubmitEvent): void {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const typed = String(new FormData(form).get("symbol") ?? "").trim().toUpperCase();
    const found = known.value.find((name) => name === typed) ?? known.value.find((name) => name.startsWith(typed));
    if (typed) onChosen(found ?? typed);
    (document.activeElement as HTMLElement | null)?.blur();
  }
  return (
    <form onSubmit={submit} class="symbol-choice">
      <input
        key={symbol}
        id="chart-symbol"
        name="symbol"
        list="symbols"
        defaultValue={symbol}
        aria-label="Symbol of the chart"
        spellcheck={false}
        autocomplete="off"
        onFocus={(event) => event.currentTarget.select()}
        onChange={(event) => known.value.includes(event.currentTarget.value.toUpperCase()) && event.currentTarget.form?.requestSubmit()}
      />
      <datalist id="symbols">
        {known.value.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </form>
  );
}
