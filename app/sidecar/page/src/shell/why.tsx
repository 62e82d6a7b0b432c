/** A dialog that explains why a rule fired or not: every clause with its value, its threshold and its margin. */
import { effect, signal } from "@preact/signals";
import { get, wordsOf } from "../client/rest";
import type { Alert, Clause, Explanation } from "../client/types";
import { Dialog } from "../parts/dialog";
import { longTime, price } from "../parts/format";
import { RuleName } from "../parts/rule_name";
import { rules } from "../state/rules";
import { addressOf } from "./route";

interface Question {
  symbol: string;
  /** "" until the user has chosen a rule. */
  rule: string;
  /** RFC 3339; "" for now. */
  at: string;
}

const open = signal(false);
const question = signal<Question>({ symbol: "", rule: "", at: "" });
const answered = signal<Explanation | null>(null);
const fault = signal<string | null>(null);

export function askWhy(symbol: string, rule = "", at = ""): void {
  question.value = { symbol, rule, at };
  open.value = true;
}
export function askWhyAlert(alert: Alert): void {
  askWhy(alert.symbol, alert.rule_type, alert.timestamp);
}

effect(() => {
  const { symbol, rule, at } = question.value;
  answered.value = null;
  fault.value = null;
  if (!symbol || !rule) return;
  const abort = new AbortController();
  get<Explanation>("api/explain", { symbol, rule, at }, abort.signal).then(
    (found) => (answered.value = found),
    (error: unknown) => {
      if (!abort.signal.aborted) fault.value = wordsOf(error);
    },
  );
  return () => abort.abort();
});

const VERDICTS: Record<Explanation["verdict"], string> = {
  fired: "It fired.",
  held_back: "The condition is true, but there was no alert: in cooldown, not held long enough, off, or not for this symbol.",
  not_met: "The condition is not true.",
  unknown: "The condition cannot be told: values are missing.",
};
const TRUTHS = { true: ["✓", "up", "true"], false: ["✗", "down", "false"], null: ["–", "faint", "unknown"] } as const;

function ClauseItem({ clause }: { clause: Clause }) {
  const [mark, look, word] = TRUTHS[`${clause.truth}`];
  const margin = clause.margin ?? null;
  return (
    <li>
      <span class={`truth ${look}`} aria-hidden="true">
        {mark}
      </span>
      <span class="unseen">{word}: </span>
      <code>{clause.text}</code>
      {margin !== null && (
        <span class="faint">
          {" "}
          {price(clause.value)} against {price(clause.threshold)}, margin {margin > 0 ? "+" : ""}
          {price(margin)}
        </span>
      )}
      {margin === null && clause.null_because && <span class="faint"> {clause.null_because}</span>}
      {clause.parts && <Clauses clauses={clause.parts} />}
    </li>
  );
}

function Clauses({ clauses }: { clauses: readonly Clause[] }) {
  return (
    <ul class="clauses">
      {clauses.map((clause, i) => (
        <ClauseItem key={i} clause={clause} />
      ))}
    </ul>
  );
}

function Answer({ of }: { of: Explanation }) {
  return (
    <>
      <p>
        <strong>{VERDICTS[of.verdict]}</strong> {of.closed ? "" : "The minute is still forming. "}
        {of.last_alert ? `Last alert: ${longTime(of.last_alert.timestamp)}.` : "No alert so far."}
      </p>
      {of.note && <p class="faint">{of.note}</p>}
      <Clauses clauses={[of.clause]} />
    </>
  );
}

export function Why() {
  const { symbol, rule, at } = question.value;
  return (
    <Dialog open={open} title={<>Why? {symbol}</>} wide>
      <div class="bar tight">
        <label>
          Rule{" "}
          <select value={rule} onChange={(event) => (question.value = { symbol, rule: event.currentTarget.value, at })}>
            <option value="">choose a rule</option>
            {rule && !rules.value?.some((one) => one.rule_type === rule) && <option value={rule}>{rule}</option>}
            {rules.value?.map((one) => (
              <option key={one.rule_type} value={one.rule_type}>
                {one.rule_type}
              </option>
            ))}
          </select>
        </label>
        <span>{at ? longTime(at) : "as of now"}</span>
        {at && <button onClick={() => (question.value = { symbol, rule, at: "" })}>As of now</button>}
        <a href={addressOf("chart", [symbol], at ? { at } : {})} onClick={() => (open.value = false)}>
          Chart
        </a>
      </div>
      <div class="explained" aria-live="polite">
        {rule && (
          <p>
            <RuleName rule={rule} />
          </p>
        )}
        {answered.value && <Answer of={answered.value} />}
        {fault.value && <p class="bad">{fault.value}</p>}
        {rule && answered.value === null && fault.value === null && <p class="faint">Asking…</p>}
      </div>
    </Dialog>
  );
}
