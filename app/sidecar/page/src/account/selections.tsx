/** The alerts that the user selects: of whole rules, or of one rule for one symbol. */
import { rules } from "../state/rules";
import type { SettingsState, Subscription, UserSettings } from "./settings";

const ANY = "*";
const wordOf = (name: string, all: string): string => (name === ANY ? all : name);

export function Selections({ settings, known }: { settings: SettingsState; known: UserSettings }) {
  function add(event: SubmitEvent): void {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const given = new FormData(form);
    const rule_type = String(given.get("rule") ?? ANY);
    const symbol = String(given.get("symbol") ?? "").trim().toUpperCase();
    const change = symbol === "" ? { selected_alerts: [...known.selected_alerts, rule_type] } : { subscriptions: [...known.subscriptions, { rule_type, symbol }] };
    void settings.change(change).then((stored) => stored && form.reset());
  }
  const without = (gone: Subscription): Subscription[] => known.subscriptions.filter((one) => one !== gone);

  return (
    <>
      {known.selected_alerts.length + known.subscriptions.length === 0 && <p class="faint">None yet. Chosen alerts are marked as yours, and go to your webhook.</p>}
      <ul class="plain-list">
        {known.selected_alerts.map((name) => (
          <li key={name}>
            {wordOf(name, "every rule")}, all symbols{" "}
            <button class="quiet" aria-label={`Remove ${name}`} onClick={() => void settings.change({ selected_alerts: known.selected_alerts.filter((one) => one !== name) })}>
              ✕
            </button>
          </li>
        ))}
        {known.subscriptions.map((one) => (
          <li key={`${one.rule_type} ${one.symbol}`}>
            {wordOf(one.rule_type, "every rule")}, {wordOf(one.symbol, "all symbols")}{" "}
            <button class="quiet" aria-label={`Remove ${one.rule_type} of ${one.symbol}`} onClick={() => void settings.change({ subscriptions: without(one) })}>
              ✕
            </button>
          </li>
        ))}
      </ul>
      <form class="add" onSubmit={add}>
        <label class="field">
          Rule
          <select name="rule">
            <option value={ANY}>every rule</option>
            {rules.value?.map(({ rule_type }) => (
              <option key={rule_type}>{rule_type}</option>
            ))}
          </select>
        </label>
        <label class="field">
          Symbol, empty for all
          <input name="symbol" maxLength={32} autocomplete="off" />
        </label>
        <button>Add</button>
      </form>
      {settings.fault !== null && (
        <p class="bad" role="alert">
          {settings.fault}
        </p>
      )}
    </>
  );
}
