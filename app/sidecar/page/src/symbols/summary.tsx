/** The market in one line: the share of rising symbols, the turnover, the alerts per minute, and the stale symbols. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { amount, NOTHING, number, percent, share } from "../parts/format";
import { perMinute } from "../state/alerts";
import { nowMs } from "../state/now";
import { followSummary, summarise, type Summary, type TimeframeSummary } from "./summary_data";

/** It has the room of all that comes. */
const BEFORE_THE_FIRST = summarise([]);

function Rising({ of, symbols }: { of: TimeframeSummary; symbols: number }) {
  const warm = of.known === symbols ? "" : `, ${of.known} of ${symbols} symbols warmed up`;
  return (
    <div class="rising" title={`${share(of.rising)} of the symbols rise within ${of.timeframe}${warm}`}>
      <dt>{of.timeframe}</dt>
      <dd>
        <span class={of.rising === null ? "" : of.rising >= 0.5 ? "up" : "down"}>{share(of.rising)}</span>
        <meter min={0} max={1} value={of.rising ?? 0} aria-hidden="true" />
        <span class="faint warm">{of.known < symbols ? `${of.known}/${symbols}` : ""}</span>
      </dd>
    </div>
  );
}

export function MarketSummary({ stale }: { stale: number }) {
  const summary = useSignal<Summary | null>(null);
  useEffect(() => followSummary((found) => (summary.value = found)), []);
  const found = summary.value ?? BEFORE_THE_FIRST;
  return (
    <dl class="summary" aria-label="The market" tabIndex={0}>
      <div>
        <dt>Rising</dt>
        <dd class="faint">share</dd>
      </div>
      {found.timeframes.map((one) => <Rising key={one.timeframe} of={one} symbols={found.symbols} />)}
      <div class="turnover" title="Quote asset, last 24 hours, against the 24 hours before">
        <dt>Turnover 24 h</dt>
        <dd>
          <span class="turnover-amount">{amount(found.turnover)}</span>{" "}
          <span class="faint">{found.turnoverChange === null ? "day before not known" : percent(found.turnoverChange, 1)}</span>
        </dd>
      </div>
      <div class="fact">
        <dt>Alerts / min</dt>
        <dd>{number(perMinute(nowMs.value), 0)}</dd>
      </div>
      <div class="fact" title="Symbols without a new value for a minute">
        <dt>Stale</dt>
        <dd class={stale > 0 ? "warn" : ""}>{summary.value === null ? NOTHING : number(stale, 0)}</dd>
      </div>
    </dl>
  );
}
