/** The alerts view: new alerts as they fire, and the history. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { wordsOf } from "../client/rest";
import { SEVERITIES, type Severity } from "../client/types";
import { Dialog } from "../parts/dialog";
import { shortTime } from "../parts/format";
import { Grid } from "../parts/grid";
import { isNarrow } from "../parts/narrow";
import { SeverityMark } from "../parts/severity";
import { useKeys } from "../shell/keys";
import { choose, go, route } from "../shell/route";
import { askWhyAlert } from "../shell/why";
import { alerts, completeSince, historyRead, justCame, perMinute, readOlder } from "../state/alerts";
import { isMine, selections } from "../state/mine";
import { mute } from "../state/mutes";
import { nowMs } from "../state/now";
import { rules } from "../state/rules";
import { notify } from "../parts/notices";
import { exportAlerts, type Kind } from "./export";
import { filterOf, historyOf, shown, type AlertFilter } from "./filter";
import { rowsOf, type AlertRow } from "./groups";
import { NARROW_COLUMNS, WIDE_COLUMNS } from "./row_columns";
import { Telling } from "./telling";

const HOUR_MS = 3_600_000;

function muteAndSay(kind: "symbol" | "rule", name: string): void {
  mute(kind, name, Date.now() + HOUR_MS);
  notify({ id: "muted", text: `${name} is muted for an hour.`, action: { label: "Until I unmute it", run: () => mute(kind, name) } });
}

function onRowKey(row: AlertRow, key: string): boolean {
  const alert = row.kind === "alert" ? row.alert : row.newest;
  if (key === "w" && row.kind === "alert") askWhyAlert(alert);
  else if (key === "c") go("chart", [alert.symbol], { at: alert.timestamp });
  else if (key === "m" && row.kind === "alert") muteAndSay("symbol", alert.symbol);
  else if (key === "M") muteAndSay("rule", alert.rule_type);
  else return false;
  return true;
}

function Filters({ filter }: { filter: AlertFilter }) {
  const toggle = (severity: Severity): void => {
    const on = filter.severities.includes(severity);
    const next = SEVERITIES.filter((one) => (one === severity ? !on : filter.severities.includes(one)));
    choose({ severity: next.join(",") });
  };
  return (
    <>
      <span role="group" aria-label="Severities" class="buttons">
        {SEVERITIES.map((severity) => (
          <button key={severity} aria-pressed={filter.severities.includes(severity)} onClick={() => toggle(severity)}>
            <SeverityMark severity={severity} />
          </button>
        ))}
      </span>
      <select aria-label="Rule" value={filter.rule} onChange={(event) => choose({ rule: event.currentTarget.value })}>
        <option value="">every rule</option>
        {filter.rule && !rules.value?.some((one) => one.rule_type === filter.rule) && <option>{filter.rule}</option>}
        {rules.value?.map((one) => <option key={one.rule_type}>{one.rule_type}</option>)}
      </select>
      <input
        type="search"
        id="alert-symbol"
        aria-label="Symbol of alerts"
        placeholder="Symbol (/)"
        spellcheck={false}
        value={route.value.query.get("symbol") ?? ""}
        onInput={(event) => choose({ symbol: event.currentTarget.value })}
      />
      {selections.value !== null && (
        <label>
          <input type="checkbox" checked={filter.mine} onChange={(event) => choose({ mine: event.currentTarget.checked ? "only" : null })} />
          only mine
        </label>
      )}
    </>
  );
}

function Exports({ filter, knownSymbols }: { filter: AlertFilter; knownSymbols: ReadonlySet<string> }) {
  const busy = useSignal(false);
  async function save(kind: Kind): Promise<void> {
    busy.value = true;
    try {
      const words = await exportAlerts(kind, filter, knownSymbols);
      if (words !== null) notify({ id: "export", text: words });
    } catch (error) {
      notify({ id: "export", text: `The file could not be made: ${wordsOf(error)}` });
    }
    busy.value = false;
  }
  return (
    <span class="buttons" role="group" aria-label="Export all alerts of these filters">
      <button disabled={busy.value} onClick={() => void save("csv")}>
        CSV
      </button>
      <button disabled={busy.value} onClick={() => void save("json")}>
        JSON
      </button>
    </span>
  );
}

export default function AlertsView() {
  const open = useSignal<ReadonlySet<string>>(new Set());
  const tellingOpen = useSignal(false);
  const reading = useSignal(false);
  const fault = useSignal<string | null>(null);
  const filter = filterOf(route.value.query);
  const knownSymbols = new Set(alerts.value.map((alert) => alert.symbol));
  const history = historyOf(filter, knownSymbols);
  const since = completeSince(history);
  const known = since === null ? [] : alerts.value.filter((alert) => alert.timestamp >= since);
  const { seen, muted } = shown(known, filter, isMine);
  const rows = rowsOf(seen, open.value);

  async function older(): Promise<void> {
    if (reading.value || since === "") return;
    reading.value = true;
    fault.value = null;
    try {
      await readOlder(history);
    } catch (error) {
      fault.value = wordsOf(error);
    }
    reading.value = false;
  }
  const few = historyRead.value && since !== "" && fault.value === null && seen.length < 40;
  useEffect(() => {
    if (few) void older();
  }, [few, JSON.stringify(history), since]);

  useKeys("Alerts", [
    { key: "/", does: "Find a symbol", run: () => document.getElementById("alert-symbol")?.focus() },
    { key: "s", does: "Sounds, notifications, mutes", run: () => (tellingOpen.value = true) },
    ...(["w: why it fired", "c: its chart", "m: mute its symbol for an hour", "M: mute its rule for an hour"] as const).map((text) => ({
      key: text.slice(0, 1),
      does: `On an alert: ${text.slice(3)}`,
      run: () => undefined,
    })),
  ]);

  function openRow(row: AlertRow): void {
    if (row.kind === "alert") return askWhyAlert(row.alert);
    const next = new Set(open.value);
    if (!next.delete(row.key)) next.add(row.key);
    open.value = next;
  }

  return (
    <section class="view" aria-labelledby="alerts-title">
      <div class="bar">
        <h2 id="alerts-title">Alerts</h2>
        <Filters filter={filter} />
        <button onClick={() => (tellingOpen.value = true)}>Sounds</button>
        <Exports filter={filter} knownSymbols={knownSymbols} />
        <span class="faint count">
          {seen.length} alerts, {perMinute(nowMs.value)} in the last minute
        </span>
        {(muted > 0 || filter.muted) && (
          <button class="quiet" aria-pressed={filter.muted} onClick={() => choose({ muted: filter.muted ? null : "shown" })}>
            {filter.muted ? "Hide muted" : `${muted} muted`}
          </button>
        )}
      </div>
      <Grid
        label="Alerts"
        rows={rows}
        keyOf={(row) => row.key}
        columns={isNarrow.value ? NARROW_COLUMNS : WIDE_COLUMNS}
        onOpen={openRow}
        onKey={onRowKey}
        onEnd={() => void older()}
        lookOf={(row) => (row.kind === "alert" ? (justCame.value.has(row.key) ? "new" : "") : "group")}
        empty={historyRead.value ? "No alerts of this kind. They appear here the moment a rule fires." : "Reading the history…"}
      />
      <p class="below faint" role="status">
        {fault.value ? <span class="bad">{fault.value} </span> : null}
        {fault.value ? <button onClick={() => void older()}>Try again</button> : null}
        {reading.value ? "Reading older alerts…" : since ? `Complete since ${shortTime(since, nowMs.value)}; scroll down for older ones.` : ""}
      </p>
      <Dialog open={tellingOpen} title="Sounds, notifications, mutes">
        <Telling />
      </Dialog>
    </section>
  );
}
