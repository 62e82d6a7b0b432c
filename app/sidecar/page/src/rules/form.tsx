/** The form of one rule: its text with a backtest beside it, and its other fields. */
import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get, Refusal, send, wordsOf } from "../client/rest";
import { isAdmin } from "../client/session";
import { SEVERITIES, type Rule } from "../client/types";
import { Editor } from "../editor/editor";
import { notify } from "../parts/notices";
import { go } from "../shell/route";
import { Backtest } from "./backtest";
import { Versions } from "./versions";

type Draft = Pick<Rule, "rule_type" | "expression" | "severity" | "cooldown_s" | "description" | "enabled" | "mode" | "symbols" | "hold_s" | "shadow">;

const FIRST: Draft = {
  rule_type: "",
  expression: "",
  severity: "medium",
  cooldown_s: 300,
  description: "",
  enabled: true,
  mode: null,
  symbols: null,
  hold_s: 0,
  shadow: false,
};

interface FormProps {
  /** Null for a new rule. */
  rule: Rule | null;
  /** The text that a new rule begins with. */
  from?: string;
  /** Called with the rule's name; with null when it was deleted. */
  onStored(name: string | null): void;
}

function draftOf({ rule_type, expression, severity, cooldown_s, description, enabled, mode, symbols, hold_s, shadow }: Rule): Draft {
  return { rule_type, expression, severity, cooldown_s, description, enabled, mode, symbols, hold_s, shadow };
}

/** Update the unchanged fields of the draft whenever this form or another user stores the rule. */
function useFollowed(draft: Signal<Draft>, stored: Draft): void {
  const last = useRef(stored);
  useEffect(() => {
    const names = Object.keys(stored) as (keyof Draft)[];
    const same = (one: Draft, other: Draft, name: keyof Draft): boolean => JSON.stringify(one[name]) === JSON.stringify(other[name]);
    const changed = names.filter((name) => !same(draft.peek(), last.current, name)).map((name) => [name, draft.peek()[name]]);
    draft.value = { ...stored, ...Object.fromEntries(changed) };
    last.current = stored;
  }, [JSON.stringify(stored)]);
}

const whole = (text: string): number => Math.max(0, Math.trunc(Number(text) || 0));
const symbolsOf = (text: string): string[] | null => {
  const found = text.toUpperCase().split(/[\s,]+/).filter(Boolean);
  return found.length > 0 ? found : null;
};

export function RuleForm({ rule, from = "", onStored }: FormProps) {
  const before: Draft = rule === null ? { ...FIRST, expression: from } : draftOf(rule);
  const draft = useSignal<Draft>(before);
  const fault = useSignal<string | null>(null);
  const busy = useSignal(false);
  const asked = useSignal(false);
  const versionsOpen = useSignal(false);
  const mayChange = isAdmin.value;
  useFollowed(draft, before);
  const now = draft.value;
  const isChanged = JSON.stringify(now) !== JSON.stringify(before);
  const set = (change: Partial<Draft>): void => void (draft.value = { ...draft.peek(), ...change });

  async function change(work: () => Promise<unknown>, words: string, name: string | null): Promise<void> {
    busy.value = true;
    fault.value = null;
    try {
      await work();
      notify({ id: "rule", text: words });
      onStored(name);
    } catch (error) {
      fault.value = error instanceof Refusal && error.status === 403 ? "Only administrators change rules." : wordsOf(error);
    } finally {
      busy.value = false;
    }
  }

  const address = `api/rules/${encodeURIComponent(now.rule_type)}`;
  const store = (next: Draft, words: string): Promise<void> =>
    change(() => (rule === null ? send("POST", "api/rules", next) : send("PUT", address, next)), words, next.rule_type);
  /** Enable or disable the rule as it is stored at that moment, so that another user's changes stay. */
  const enable = (enabled: boolean): Promise<void> =>
    change(
      async () => send("PUT", address, { ...draftOf(await get<Rule>(address)), enabled }),
      `Rule ${now.rule_type} is ${enabled ? "enabled" : "disabled"}.`,
      now.rule_type,
    );

  return (
    <form
      class="rule-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (mayChange) void store(now, `Rule ${now.rule_type} is stored; workers follow within a second.`);
      }}
    >
      <div class="bar tight">
        <h2>{rule === null ? "New rule" : rule.rule_type}</h2>
        {rule !== null && <span class="faint">version {rule.version}</span>}
      </div>
      {rule === null && (
        <label class="field">
          Name
          <input required maxLength={64} pattern="[a-z][a-z0-9_]*" title="lower-case letters, digits and _, a letter first" value={now.rule_type} onInput={(event) => set({ rule_type: event.currentTarget.value })} />
        </label>
      )}
      <p class="field-name">Condition</p>
      <Editor
        label={`Condition of ${now.rule_type || "the new rule"}`}
        kind="rule"
        text={now.expression}
        hint="price_change_5m > 2 and volume_5m > 3 * prev(volume_5m)"
        onText={(expression) => set({ expression })}
      />
      <p class="faint">Ctrl-Space completes. A change here is tried at once beside it{mayChange ? ", and stored only when you say so." : "; it is not stored."}</p>
      <Fields draft={now} mayChange={mayChange} set={set} />
      {fault.value && (
        <p class="bad" role="alert">
          {fault.value}
        </p>
      )}
      <div class="bar tight">
        {mayChange ? (
          <>
            <button class="main" disabled={busy.value || !isChanged || now.expression.trim() === ""}>
              {rule === null ? "Create" : "Save"}
            </button>
            {rule !== null && (
              <button type="button" disabled={busy.value} onClick={() => void enable(!rule.enabled)}>
                {rule.enabled ? "Disable" : "Enable"}
              </button>
            )}
            {rule !== null && !asked.value && (
              <button type="button" onClick={() => (asked.value = true)}>
                Delete…
              </button>
            )}
            {rule !== null && asked.value && (
              <button
                type="button"
                class="bad"
                disabled={busy.value}
                onClick={() => void change(() => send("DELETE", address), `Rule ${rule.rule_type} is deleted.`, null)}
              >
                Delete it for everybody
              </button>
            )}
          </>
        ) : (
          <span class="faint">Signed in as an administrator you can {rule === null ? "store" : "change"} it.</span>
        )}
        {isChanged && (
          <button type="button" onClick={() => (draft.value = before)}>
            Undo changes
          </button>
        )}
        {rule?.shadow === true && (
          <a class="button" href={`api/alert-export?shadow=true&rule_type=${encodeURIComponent(rule.rule_type)}`} download>
            Its shadow alerts, CSV
          </a>
        )}
        {rule !== null && (
          <button type="button" onClick={() => go("rules", [], { new: "1", from: now.expression })}>
            Copy as new
          </button>
        )}
      </div>
      {rule !== null && (
        <details onToggle={(event) => (versionsOpen.value = event.currentTarget.open)}>
          <summary>Versions</summary>
          {versionsOpen.value && <Versions rule={rule.rule_type} version={rule.version} onTake={(expression) => set({ expression })} />}
        </details>
      )}
      <Backtest rule={now} />
    </form>
  );
}

function Fields({ draft, mayChange, set }: { draft: Draft; mayChange: boolean; set(change: Partial<Draft>): void }) {
  const disabled = !mayChange;
  return (
    <div class="fields">
      <label class="field">
        Severity
        <select value={draft.severity} disabled={disabled} onChange={(event) => set({ severity: event.currentTarget.value as Draft["severity"] })}>
          {SEVERITIES.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </label>
      <label class="field">
        Cooldown, seconds
        <input type="number" min={0} max={604_800} value={draft.cooldown_s} onInput={(event) => set({ cooldown_s: whole(event.currentTarget.value) })} />
      </label>
      <label class="field">
        True for, seconds
        <input type="number" min={0} max={86_400} value={draft.hold_s} onInput={(event) => set({ hold_s: whole(event.currentTarget.value) })} />
      </label>
      <label class="field">
        Evaluated
        <select value={draft.mode ?? ""} disabled={disabled} onChange={(event) => set({ mode: (event.currentTarget.value || null) as Draft["mode"] })}>
          <option value="">as the screener is set</option>
          <option value="live">on every update</option>
          <option value="close">on closed minutes</option>
        </select>
      </label>
      <label class="field">
        Alerts
        <select value={draft.shadow ? "shadow" : ""} disabled={disabled} onChange={(event) => set({ shadow: event.currentTarget.value === "shadow" })}>
          <option value="">sent</option>
          <option value="shadow">shadow: stored only</option>
        </select>
      </label>
      <label class="field wide">
        Symbols, empty for all
        <input value={draft.symbols?.join(" ") ?? ""} readOnly={disabled} onChange={(event) => set({ symbols: symbolsOf(event.currentTarget.value) })} />
      </label>
      <label class="field wide">
        Description
        <input maxLength={1000} value={draft.description} readOnly={disabled} onInput={(event) => set({ description: event.currentTarget.value })} />
      </label>
    </div>
  );
}
