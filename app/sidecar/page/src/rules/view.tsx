/** The rules view: all rules, and one of them with its text and a backtest. Administrators change them here. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, wordsOf } from "../client/rest";
import { isAdmin } from "../client/session";
import type { Rule } from "../client/types";
import { number, shortTime } from "../parts/format";
import { useKeys } from "../shell/keys";
import { addressOf, choose, go, route } from "../shell/route";
import { SeverityMark } from "../parts/severity";
import { nowMs } from "../state/now";
import { readRules } from "../state/rules";
import type { ViewProps } from "../views";
import { RuleForm } from "./form";

const EVERY_MS = 15_000;
const NEW = "new";

interface Activity {
  fired: number;
  last: { time: string; symbol: string; price: number } | null;
}

const activity = signal<Readonly<Record<string, Activity>>>({});
const known = signal<readonly Rule[] | null>(null);
const refused = signal<Readonly<Record<string, string>>>({});
const fault = signal<string | null>(null);

async function read(): Promise<void> {
  try {
    const found = await get<{ rules: Rule[]; refused: Record<string, string> }>("api/rules");
    known.value = found.rules;
    refused.value = found.refused;
    activity.value = (await get<{ rules: Record<string, Activity> }>("api/rule-activity")).rules;
    fault.value = null;
  } catch (error) {
    fault.value = wordsOf(error);
  }
}

const STATES: Record<Rule["state"], { word: string; mark: string; look: string }> = {
  active: { word: "active", mark: "●", look: "up" },
  shadow: { word: "shadow", mark: "◐", look: "warn" },
  disabled: { word: "disabled", mark: "○", look: "faint" },
  switched_off: { word: "switched off: it failed", mark: "▲", look: "bad" },
};

export default function RulesView({ args }: ViewProps) {
  const [name] = args;
  const making = route.value.query.get(NEW) !== null;
  const open = name !== undefined || making;
  useEffect(() => {
    void read();
    const timer = setInterval(() => document.hidden || void read(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  useKeys("Rules", [{ key: "n", does: "Write a new rule", run: () => go("rules", [], { [NEW]: "1" }) }]);

  const rule = known.value?.find((one) => one.rule_type === name);
  return (
    <section class={`view two-panes ${open ? "opened" : ""}`} aria-labelledby="rules-title">
      <RuleList chosen={name} />
      <div class="pane">
        {open && (
          <p class="back-link">
            <a href={addressOf("rules")}>← All rules</a>
          </p>
        )}
        {!open && <p class="empty">Choose a rule, or write a new one.</p>}
        {making && <RuleForm key="new" rule={null} from={route.value.query.get("from") ?? ""} onStored={stored} />}
        {rule !== undefined && !making && <RuleForm key={rule.rule_type} rule={rule} onStored={stored} />}
        {name !== undefined && rule === undefined && known.value !== null && <p class="empty">There is no rule of this name.</p>}
      </div>
    </section>
  );
}

async function stored(name: string | null): Promise<void> {
  await Promise.all([read(), readRules()]);
  if (name === null) go("rules");
  else go("rules", [name]);
}

function RuleList({ chosen }: { chosen: string | undefined }) {
  const wanted = route.value.query.get("find") ?? "";
  const rules = known.value?.filter((rule) => `${rule.rule_type} ${rule.description} ${rule.expression}`.toLowerCase().includes(wanted.toLowerCase()));
  return (
    <div class="pane list">
      <div class="bar">
        <h2 id="rules-title">Rules</h2>
        <input type="search" aria-label="Find a rule" placeholder="Find" value={wanted} onInput={(event) => choose({ find: event.currentTarget.value })} />
        <a class="button" href={addressOf("rules", [], { [NEW]: "1" })}>
          New rule
        </a>
      </div>
      {!isAdmin.value && <p class="faint note">You can read and try every rule. Changing them needs the token of an administrator.</p>}
      {fault.value && (
        <p class="bad note" role="alert">
          {fault.value}
        </p>
      )}
      {rules === undefined && fault.value === null && <p class="empty">Loading…</p>}
      <ul class="rule-list">
        {rules?.map((rule) => (
          <li key={rule.rule_type}>
            <a href={addressOf("rules", [rule.rule_type])} aria-current={rule.rule_type === chosen ? "true" : undefined}>
              <span class="name">{rule.rule_type}</span>
              <span class={`state ${STATES[rule.state].look}`}>
                <span aria-hidden="true">{STATES[rule.state].mark}</span> {STATES[rule.state].word}
              </span>
              <span class="what">
                <Fires of={activity.value[rule.rule_type]} />
              </span>
              <span class="faint what">
                <SeverityMark severity={rule.severity} /> · version {rule.version}
                {rule.description && ` · ${rule.description}`}
              </span>
            </a>
          </li>
        ))}
      </ul>
      {Object.entries(refused.value).map(([name, why]) => (
        <p key={name} class="bad note">
          {name} in the table is no rule: {why}
        </p>
      ))}
    </div>
  );
}

function Fires({ of }: { of: Activity | undefined }) {
  if (of === undefined) return <>…</>;
  const { fired, last } = of;
  return (
    <>
      {number(fired, 0)} in 24 h{last === null ? ", never before" : `, last ${last.symbol} ${shortTime(last.time, nowMs.value)}`}
    </>
  );
}
