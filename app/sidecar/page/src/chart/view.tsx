/** The chart view: candles of one symbol, with indicators computed from them and the alerts that fired. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { live } from "../client/live";
import type { Alert } from "../client/types";
import { longTime, price } from "../parts/format";
import { useKeys } from "../shell/keys";
import { choose, go, route } from "../shell/route";
import { askWhy, askWhyAlert } from "../shell/why";
import { onNewAlerts } from "../state/alerts";
import { clock, isDark, kept } from "../state/preferences";
import type { ViewProps } from "../views";
import { ChartAlerts } from "./alert_list";
import { INTERVALS, missingBetween, type Interval } from "./bars";
import { ChartData, follow } from "./data";
import { Drawing, type Words } from "./drawing";
import { Legend } from "./legend";
import { chosenOverlays, OVERLAYS, toggleOverlay } from "./overlays";
import { neighbour, SymbolChoice } from "./symbol_choice";

const NEAR_THE_OLDEST_BARS = 40;
const SCROLL_BARS = 10;
const ZOOM = 1.25;

const SHADOW_EVERY_MS = 30_000;

const isText = (value: unknown): value is string => typeof value === "string";
const isInterval = (value: unknown): value is Interval => INTERVALS.includes(value as Interval);
const lastSymbol = kept("chart-symbol", "BTCUSDT", isText);
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const withShadow = kept("chart-shadow", false, isBoolean);
const lastInterval = kept<Interval>("chart-interval", "5m", isInterval);

const words: Words = {
  tick: (ms, kind) => (kind === "date" ? longTime(ms).slice(5, 10) : longTime(ms).slice(11, 16)),
  full: (ms) => longTime(ms).slice(0, 16),
  price: (value) => price(value),
};

/** The chart of a symbol and interval, while it is shown. */
function useChart(symbol: string, interval: Interval, at: string | null) {
  const place = useRef<HTMLDivElement>(null);
  const drawing = useRef<Drawing | null>(null);
  const data = useRef<ChartData | null>(null);
  const changes = useSignal(0);
  const pointed = useSignal<number | null>(null);

  useEffect(() => {
    if (place.current === null) return;
    const drawn = new Drawing(place.current, words);
    const found = new ChartData(symbol, interval, (change) => {
      if (change === "all") drawn.setBars(found.bars, interval);
      else drawn.updateLast(found.bars);
      changes.value += 1;
    });
    [drawing.current, data.current] = [drawn, found];
    changes.value += 1;
    drawn.setOverlays(chosenOverlays.peek(), [], interval);
    drawn.onPointing((openMs) => (pointed.value = openMs));
    const readWhereNeeded = (): void => {
      const range = drawn.range();
      if (range !== null && range.from < NEAR_THE_OLDEST_BARS) void found.readOlder();
    };
    drawn.onRange(readWhereNeeded);
    // a user who scrolled back while older bars were being read may already be at the new end
    const stopReading = found.reading.subscribe((reading) => {
      if (!reading && found.fault.peek() === null) readWhereNeeded();
    });
    drawn.onClick((openMs, alertId) => {
      const alerts = found.alertsOf(openMs);
      const chosen = alerts.find((alert) => alert.id === alertId) ?? alerts[0];
      if (chosen !== undefined) askWhyAlert(chosen);
    });
    const stopFollowing = follow(symbol, (candles) => found.takeCandles(candles));
    const stopHearing = onNewAlerts((alerts) => found.takeAlerts(alerts));
    const stopMarking = found.alerts.subscribe((alerts) => drawn.setMarkers(alerts, interval));
    const stopShadow = withShadow.subscribe((shown) => void found.showShadow(shown));
    const shadowTimer = window.setInterval(() => withShadow.peek() && void found.showShadow(true), SHADOW_EVERY_MS);
    void found.readNewest().then(() => showAt(drawn, found, at));
    // read the candles that came while the connection was lost
    let wasOpen = live.state.peek().kind === "open";
    const stopWatching = live.state.subscribe(({ kind }) => {
      if (kind === "open" && !wasOpen && found.bars.length > 0) void found.readNewest();
      wasOpen = kind === "open";
    });
    return () => {
      for (const stop of [stopReading, stopFollowing, stopHearing, stopMarking, stopShadow, stopWatching]) stop();
      window.clearInterval(shadowTimer);
      found.stop();
      drawn.remove();
    };
  }, [symbol, interval]);

  useEffect(() => {
    if (drawing.current !== null && data.current !== null) void showAt(drawing.current, data.current, at);
  }, [at]);
  useEffect(() => {
    drawing.current?.setOverlays(chosenOverlays.value, data.current?.bars ?? [], interval);
  }, [chosenOverlays.value]);
  useEffect(() => {
    drawing.current?.paint();
    if (data.current !== null) drawing.current?.setMarkers(data.current.alerts.peek(), interval);
  }, [isDark()]);
  useEffect(() => drawing.current?.rewrite(), [clock.value]);

  void changes.value;
  return { place, drawing, data, pointed };
}

async function showAt(drawing: Drawing, data: ChartData, at: string | null): Promise<void> {
  const ms = Date.parse(at ?? "");
  if (Number.isNaN(ms) || data.bars.length === 0) return;
  await data.readBackTo(ms);
  const index = data.bars.findLastIndex((bar) => bar.openMs <= ms);
  if (index >= 0) drawing.showAround(index + missingBetween(data.bars.slice(0, index + 1), data.interval, 500).length);
}

export default function ChartView({ args }: ViewProps) {
  const symbol = (args[0] || lastSymbol.value).toUpperCase();
  const asked = route.value.query.get("interval");
  const interval = isInterval(asked) ? asked : lastInterval.value;
  const { place, drawing, data, pointed } = useChart(symbol, interval, route.value.query.get("at"));
  useEffect(() => {
    lastSymbol.value = symbol;
    lastInterval.value = interval;
    document.title = `${symbol} · Screener`;
  }, [symbol, interval]);

  const showInterval = (step: number): void => {
    const next = INTERVALS[INTERVALS.indexOf(interval) + step];
    if (next !== undefined) choose({ interval: next });
  };
  const showSymbol = (name: string): void => go("chart", [name], { interval });
  useKeys("Chart", [
    { key: "/", does: "Choose the symbol", run: () => document.getElementById("chart-symbol")?.focus() },
    { key: "[", does: "The symbol before, by name", run: () => showSymbol(neighbour(symbol, -1)) },
    { key: "]", does: "The next symbol, by name", run: () => showSymbol(neighbour(symbol, 1)) },
    { key: ",", does: "A shorter interval", run: () => showInterval(-1) },
    { key: ".", does: "A longer interval", run: () => showInterval(1) },
    { key: "ArrowLeft", does: "Back in time", run: () => drawing.current?.scroll(-SCROLL_BARS) },
    { key: "ArrowRight", does: "Forward in time", run: () => drawing.current?.scroll(SCROLL_BARS) },
    { key: "End", does: "To the newest candle", run: () => drawing.current?.showLast() },
    { key: "+", does: "Zoom in", run: () => drawing.current?.zoom(1 / ZOOM) },
    { key: "-", does: "Zoom out", run: () => drawing.current?.zoom(ZOOM) },
    { key: "w", does: "Why a rule fires here, or not", run: () => askWhy(symbol) },
  ]);

  const bars = data.current?.bars ?? [];
  const under = pointed.value === null ? -1 : bars.findIndex((bar) => bar.openMs === pointed.value);
  const index = under < 0 ? bars.length - 1 : under;
  const missing = missingBetween(bars, interval, Infinity).length;
  const alerts = data.current?.alerts.value ?? [];
  const last = bars.at(-1);
  return (
    <section class="view" aria-labelledby="chart-title">
      <div class="bar">
        <h2 id="chart-title" class="unseen">
          Chart of {symbol}
        </h2>
        <SymbolChoice symbol={symbol} onChosen={showSymbol} />
        <span role="group" aria-label="Interval" class="buttons">
          {INTERVALS.map((one) => (
            <button key={one} aria-pressed={one === interval} onClick={() => choose({ interval: one })}>
              {one}
            </button>
          ))}
        </span>
        <span role="group" aria-label="Drawn on the chart" class="buttons">
          {OVERLAYS.map(({ id, title }) => (
            <button key={id} aria-pressed={chosenOverlays.value.includes(id)} onClick={() => toggleOverlay(id)}>
              {title}
            </button>
          ))}
        </span>
        <button
          aria-pressed={withShadow.value}
          title="Alerts of rules in the shadow: squares on the chart"
          onClick={() => (withShadow.value = !withShadow.value)}
        >
          Shadow
        </button>
        <button onClick={() => askWhy(symbol)}>Why?</button>
      </div>
      <Legend bar={bars[index]} before={bars[index - 1]} />
      <p class="lines" aria-hidden="true">
        {OVERLAYS.filter(({ id }) => chosenOverlays.value.includes(id)).flatMap(({ lines }) =>
          lines.map((line) => (
            <span key={line.name}>
              <span class="line-mark" style={{ background: `var(${line.colour})` }} />
              {line.name}
            </span>
          )),
        )}
      </p>
      <div class="chart-and-alerts">
        <div class="chart-frame">
          <div
            ref={place}
            class="chart"
            role="img"
            aria-label={`${interval} candles of ${symbol}, ${last === undefined ? "not read yet" : `last price ${price(last.close)}`}, ${alerts.length} alerts`}
          />
        </div>
        <ChartAlerts alerts={alerts} onOpen={(alert: Alert) => askWhyAlert(alert)} />
      </div>
      <div class="below faint chart-below">
        <p role="status">
          {data.current?.fault.value ? (
            <>
              <span class="bad">{data.current.fault.value}</span>{" "}
              <button onClick={() => void data.current?.readNewest()}>Try again</button>{" "}
            </>
          ) : null}
          {data.current?.reading.value ? "Reading candles… " : ""}
          {missing > 0 ? `${missing === 1 ? "1 candle is" : `${missing} candles are`} missing in the data: gaps in the chart. ` : ""}
        </p>
        <p>
          <a href="https://www.tradingview.com/" target="_blank" rel="noopener noreferrer">
            Charts by TradingView
          </a>{" "}
          · <a href="page/licences.txt">Licences</a>
        </p>
      </div>
    </section>
  );
}
