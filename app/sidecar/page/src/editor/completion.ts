/** Completions at the cursor, with units and meanings. */
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { learnLanguage, type Kind, type Language } from "./language";

function completions(known: Language, kind: Kind): Completion[] {
  const fields = known.fields.flatMap((field) =>
    field.names.map((name) => ({
      label: name,
      type: "variable",
      detail: field.unit,
      info: `${field.meaning}. Null unless known: ${field.null_unless_known}.`,
    })),
  );
  const aliases = Object.entries(known.aliases).map(([label, means]) => ({ label, type: "variable", detail: `= ${means}`, boost: 1 }));
  const functions = known.functions
    .filter((one) => kind !== "rule" || !one.screens_only)
    .map((one) => ({
      label: one.name,
      displayLabel: one.signature,
      apply: `${one.name}(`,
      type: "function",
      info: one.null_if ? `${one.meaning}. Null if ${one.null_if}.` : one.meaning,
    }));
  const words = known.words.map((label) => ({ label, type: "keyword", boost: 2 }));
  return [...fields, ...aliases, ...functions, ...words];
}

function suffixes(known: Language, digits: string): Completion[] {
  const factors = known.suffixes.map(({ name, factor }) => ({ label: `${digits}${name}`, detail: `× ${factor.toLocaleString("en-US")}`, type: "unit" }));
  const durations = known.timeframes.map(({ name, minutes }) => ({ label: name, detail: `${minutes} min`, type: "unit" }));
  return [...factors, ...durations.filter(({ label }) => label.startsWith(digits))];
}

export function completionSource(kind: () => Kind) {
  return async (context: CompletionContext): Promise<CompletionResult | null> => {
    const known = await learnLanguage();
    if (known === null) return null;
    const number = context.matchBefore(/(?<![A-Za-z0-9_.])\d[\d_.]*/);
    if (number !== null) return { from: number.from, options: suffixes(known, number.text), filter: false };
    const name = context.matchBefore(/[A-Za-z_][A-Za-z0-9_]*/);
    if (name === null && !context.explicit) return null;
    return { from: name?.from ?? context.pos, options: completions(known, kind()), validFor: /^[A-Za-z0-9_]*$/ };
  };
}
