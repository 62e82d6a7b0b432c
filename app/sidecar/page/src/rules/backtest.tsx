/** The backtest of a rule over the last hours, run again whenever its text has not changed for a moment. */
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, Refusal, wordsOf } from "../client/rest";
import { number, price, shortTime } from "../parts/format";
import { addressOf } from "../shell/route";
import { nowMs } from "../state/now";
import type { Fault } from "../editor/language";

interface Result {
  since: string;
  until: string;
  fired: number;
  symbols: number;
  tried: number;
  of: number;
  complete: boolean;
  minutes: number;
  awake: string | null;
  took_ms: number;
  by_symbol: { symbol: string; fired: number }[];
  by_day: { day: string; fired: number }[];
  alerts: { symbol: string; time: string; price: number }[];
  fault: string | null;
}

interface Tried {
  expression: string;
  cooldown_s: number;
  hold_s: number;
}

const SETTLED_AFTER_MS = 700;
const SHOWN_ALERTS = 100;
const SHOWN_SYMBOLS = 12;
const hours = signal(24);

type State = { kind: "idle" } | { kind: "asking" } | { kind: "fault"; text: string } | { kind: "done"; result: Result };

export function Backtest({ rule }: { rule: Tried }) {
  const [state, setState] = useState<State>({ kind: "idle" });
  const { expression, cooldown_s, hold_s } = rule;
  const back = hours.value;
  useEffect(() => {
    if (expression.trim() === "") {
      setState({ kind: "idle" });
      return;
    }
    const abort = new AbortController();
    let timer = window.setTimeout(ask, SETTLED_AFTER_MS);
    function ask(): void {
      setState((before) => (before.kind === "done" ? before : { kind: "asking" }));
      get<{ faults: Fault[]; result: Result | null }>("api/backtest", { expression, cooldown_s, hold_s, hours: back }, abort.signal).then(
        ({ result }) => setState(result === null ? { kind: "fault", text: "The expression has errors: they are underlined." } : { kind: "done", result }),
        (error: unknown) => {
          if (abort.signal.aborted) return;
          setState({ kind: "fault", text: wordsOf(error) });
          if (error instanceof Refusal && (error.status === 503 || error.status === 429)) timer = window.setTimeout(ask, 1000 * (error.retryAfterS ?? 3));
        },
      );
    }
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [expression, cooldown_s, hold_s, back]);

  return (
    <section class="backtest" aria-labelledby="backtest-title">
      <div class="bar tight">
        <h3 id="backtest-title">Backtest</h3>
        <label>
          last{" "}
          <select value={back} onChange={(event) => (hours.value = Number(event.currentTarget.value))}>
            {[6, 24, 48, 168].map((one) => (
              <option key={one} value={one}>
                {one < 72 ? `${one} hours` : `${one / 24} days`}
              </option>
            ))}
          </select>
        </label>
      </div>
      <div role="status" class="backtest-words">
        {state.kind === "idle" && <p class="faint">Write a condition to see what it would have done.</p>}
        {state.kind === "asking" && <p class="faint">Trying it on the stored minutes…</p>}
        {state.kind === "fault" && <p class="bad">{state.text}</p>}
        {state.kind === "done" && <Words result={state.result} />}
      </div>
      {state.kind === "done" && state.result.fired > 0 && <Figures result={state.result} />}
    </section>
  );
}

const plural = (count: number, word: string): string => `${number(count, 0)} ${word}${count === 1 ? "" : "s"}`;

function Words({ result }: { result: Result }) {
  const seconds = number(result.took_ms / 1000, 1);
  return (
    <>
      <p>
        <strong>{plural(result.fired, "alert")}</strong> of {plural(result.by_symbol.length, "symbol")} since {shortTime(result.since, nowMs.value)}.
      </p>
      <p class="faint">
        {result.complete ? `All ${plural(result.of, "symbol")}` : `The ${number(result.tried, 0)} symbols with most turnover of ${number(result.of, 0)}`} in {seconds} s,{" "}
        {plural(result.minutes, "minute")}.{" "}
        {result.awake === null && "No symbol has all values that it reads: history is missing."}
        {result.awake !== null && Date.parse(result.awake) > Date.parse(result.since) && `Its values are known from ${shortTime(result.awake, nowMs.value)} on.`}
      </p>
      {result.fault && <p class="bad">It could not be evaluated: {result.fault}</p>}
    </>
  );
}

function Figures({ result }: { result: Result }) {
  const most = Math.max(...result.by_symbol.map((one) => one.fired));
  const mostOfDay = Math.max(...result.by_day.map((one) => one.fired));
  return (
    <>
      <h4>By day</h4>
      <table class="plain bars">
        <tbody>
          {result.by_day.map(({ day, fired }) => (
            <Bar key={day} name={day} fired={fired} most={mostOfDay} />
          ))}
        </tbody>
      </table>
      <h4>
        By symbol{result.by_symbol.length > SHOWN_SYMBOLS && <span class="faint">, the first {SHOWN_SYMBOLS} of {result.by_symbol.length}</span>}
      </h4>
      <table class="plain bars">
        <tbody>
          {result.by_symbol.slice(0, SHOWN_SYMBOLS).map(({ symbol, fired }) => (
            <Bar key={symbol} name={symbol} fired={fired} most={most} />
          ))}
        </tbody>
      </table>
      <h4>
        Alerts{result.fired > SHOWN_ALERTS && <span class="faint">, the newest {Math.min(SHOWN_ALERTS, result.alerts.length)}</span>}
      </h4>
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Minute</th>
            <th scope="col">Symbol</th>
            <th scope="col" class="number">
              Close
            </th>
          </tr>
        </thead>
        <tbody>
          {result.alerts.slice(0, SHOWN_ALERTS).map((one) => (
            <tr key={`${one.symbol} ${one.time}`}>
              <td>{shortTime(one.time, nowMs.value)}</td>
              <td>
                <a href={addressOf("chart", [one.symbol], { at: one.time })}>{one.symbol}</a>
              </td>
              <td class="number">{price(one.price)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Bar({ name, fired, most }: { name: string; fired: number; most: number }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td class="number">{number(fired, 0)}</td>
      <td>
        <meter min={0} max={most} value={fired} aria-label={`${name}: ${fired}`} />
      </td>
    </tr>
  );
}
