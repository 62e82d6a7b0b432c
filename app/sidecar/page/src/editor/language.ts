/** The language of expressions, which completion needs: read from the sidecar once. */
import { get } from "../client/rest";

export interface Language {
  fields: { name: string; unit: string; meaning: string; null_unless_known: string; names: string[] }[];
  aliases: Record<string, string>;
  functions: { name: string; signature: string; arguments: string[]; meaning: string; null_if: string; screens_only: boolean }[];
  timeframes: { name: string; minutes: number }[];
  suffixes: { name: string; factor: number }[];
  words: string[];
}

let asked: Promise<Language | null> | null = null;

/** Read the language; null while the screener does not answer: the next call asks again. */
export function learnLanguage(): Promise<Language | null> {
  asked ??= get<Language>("api/language").catch(() => {
    asked = null;
    return null;
  });
  return asked;
}

/** rule: the condition of a rule. screen: the condition of a query. number: the key that a query sorts by. */
export type Kind = "rule" | "screen" | "number";

export interface Fault {
  position: number;
  length: number;
  message: string;
  suggestions: string[];
}

export function check(expression: string, kind: Kind): Promise<{ faults: Fault[] }> {
  return get("api/check", { expression, kind });
}
