/** The chart itself, drawn by lightweight-charts: candles, volume, lines, panes, and markers of alerts. */
import {
  CandlestickSeries,
  createChart,
  createSeriesMarkers,
  HistogramSeries,
  LineSeries,
  LineStyle,
  type IChartApi,
  type IRange,
  type ISeriesApi,
  type ISeriesMarkersPluginApi,
  type LogicalRange,
  type SeriesMarker,
  type SeriesType,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import type { Alert } from "../client/types";
import { priceDecimals } from "../parts/format";
import { ruleColour } from "../parts/rule_name";
import { missingBetween, startOf, type Bar, type Interval } from "./bars";
import { OVERLAYS, type Overlay } from "./overlays";

/** The most empty bars that a gap in the data is drawn with: weeks without data do not fill the chart. */
const LONGEST_GAP_BARS = 500;
const LEVELS = { type: "price", precision: 1, minMove: 0.1 } as const;

export const timeOf = (ms: number): UTCTimestamp => (ms / 1000) as UTCTimestamp;
const msOf = (time: Time): number => Number(time) * 1000;

/** Return a colour of style/colours.css in a form that the canvas understands. */
function colour(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
const faded = (rgb: string): string => rgb.replace("rgb(", "rgba(").replace(")", ", 0.4)");

interface Drawn {
  overlay: Overlay;
  series: ISeriesApi<SeriesType>[];
}

export interface Words {
  /** The label of a tick: as short as its kind allows. */
  tick(ms: number, kind: "date" | "time"): string;
  full(ms: number): string;
  price(value: number): string;
}

export class Drawing {
  readonly #chart: IChartApi;
  readonly #candles: ISeriesApi<"Candlestick">;
  readonly #volume: ISeriesApi<"Histogram">;
  readonly #markers: ISeriesMarkersPluginApi<Time>;
  #overlays: Drawn[] = [];
  /** The range asked for, until the chart's next frame shows it: keys may come faster than frames. */
  #asked: IRange<number> | null = null;
  #colours = { up: "", down: "" };
  readonly #words: Words;

  constructor(place: HTMLElement, words: Words) {
    this.#words = words;
    this.#chart = createChart(place, {
      autoSize: true,
      // the view itself names and links TradingView; the library's logo needs a style element
      layout: { attributionLogo: false, fontFamily: "system-ui, sans-serif" },
      localization: { timeFormatter: (time: Time) => words.full(msOf(time)) },
      timeScale: {
        timeVisible: true,
        rightOffset: 4,
        tickMarkFormatter: (time: Time, type: number) => words.tick(msOf(time), type < 3 ? "date" : "time"),
      },
      crosshair: { mode: 0 },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, {});
    this.#volume = this.#chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.#markers = createSeriesMarkers(this.#candles, []);
    this.paint();
  }

  /** Apply the colours of the theme. */
  paint(): void {
    const [up, down, line] = [colour("--up"), colour("--down"), colour("--line")];
    this.#colours = { up, down };
    this.#chart.applyOptions({
      layout: { background: { color: colour("--card") }, textColor: colour("--faint"), panes: { separatorColor: line } },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
    this.#candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down, borderVisible: false });
    for (const { overlay, series } of this.#overlays)
      overlay.lines.forEach((one, i) => series[i]?.applyOptions({ color: colour(one.colour) }));
  }

  /** Draw these bars and no others. */
  setBars(bars: readonly Bar[], interval: Interval): void {
    const decimals = priceDecimals(bars.at(-1)?.close ?? 1);
    const priceFormat = { type: "custom", minMove: 10 ** -decimals, formatter: this.#words.price } as const;
    this.#candles.applyOptions({ priceFormat });
    for (const { overlay, series } of this.#overlays)
      for (const one of series) one.applyOptions({ priceFormat: overlay.unit === "price" ? priceFormat : LEVELS });
    const gaps = missingBetween(bars, interval, LONGEST_GAP_BARS).map((ms) => ({ time: timeOf(ms) }));
    const inOrder = (one: { time: UTCTimestamp }, other: { time: UTCTimestamp }): number => one.time - other.time;
    this.#candles.setData([...bars.map(candle), ...gaps].sort(inOrder));
    this.#volume.setData(bars.map((bar) => this.#volumeOf(bar)));
    this.#each((series, values) =>
      series.setData(bars.flatMap((bar, i) => (values[i] == null ? [] : [{ time: timeOf(bar.openMs), value: values[i] }])) as never),
      bars,
    );
  }

  /** Redraw the last bar, or draw a new one. */
  updateLast(bars: readonly Bar[]): void {
    const bar = bars.at(-1);
    if (bar === undefined) return;
    this.#candles.update(candle(bar));
    this.#volume.update(this.#volumeOf(bar));
    this.#each((series, values) => {
      const value = values.at(-1);
      if (value != null) series.update({ time: timeOf(bar.openMs), value } as never);
    }, bars);
  }

  /** Draw these overlays and no others. */
  setOverlays(ids: readonly string[], bars: readonly Bar[], interval: Interval): void {
    for (const { series } of this.#overlays) for (const one of series) this.#chart.removeSeries(one);
    let pane = 0;
    this.#overlays = OVERLAYS.filter((one) => ids.includes(one.id)).map((overlay) => {
      if (overlay.ownPane) pane += 1;
      const series = overlay.lines.map((one) => {
        const options = { color: colour(one.colour), lastValueVisible: false, priceLineVisible: false };
        const place = overlay.ownPane ? pane : 0;
        return one.kind === "histogram"
          ? this.#chart.addSeries(HistogramSeries, options, place)
          : this.#chart.addSeries(LineSeries, { ...options, lineWidth: 1, lineStyle: one.dashed === true ? LineStyle.Dashed : LineStyle.Solid, crosshairMarkerVisible: false }, place);
      });
      return { overlay, series };
    });
    this.#chart.panes().forEach((one, i) => one.setStretchFactor(i === 0 ? 4 : 1));
    this.setBars(bars, interval);
  }

  /** Draw one marker for each rule and bar. */
  setMarkers(alerts: readonly Alert[], interval: Interval): void {
    const found = new Map<string, SeriesMarker<Time>>();
    for (const alert of alerts) {
      const at = startOf(Date.parse(alert.timestamp), interval);
      found.set(`${alert.rule_type} ${at}`, { time: timeOf(at), color: ruleColour(alert.rule_type), id: alert.id, size: 1.6, ...pointing(alert) });
    }
    this.#markers.setMarkers([...found.values()].sort((one, other) => Number(one.time) - Number(other.time)));
  }

  /** Call `chosen` with the open time of the clicked bar, and with the alert's id if its marker was hit. */
  onClick(chosen: (openMs: number, alertId: string | null) => void): void {
    this.#chart.subscribeClick(({ time, hoveredObjectId }) => {
      if (time !== undefined) chosen(msOf(time), typeof hoveredObjectId === "string" ? hoveredObjectId : null);
    });
  }

  /** Call `pointed` with the open time of the bar under the pointer, or null. */
  onPointing(pointed: (openMs: number | null) => void): void {
    this.#chart.subscribeCrosshairMove(({ time }) => pointed(time === undefined ? null : msOf(time)));
  }

  onRange(changed: (range: LogicalRange | null) => void): void {
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange(changed);
  }

  /** The visible range; null without bars. */
  range(): LogicalRange | null {
    return this.#chart.timeScale().getVisibleLogicalRange();
  }

  /** Scroll to the bar at this position. */
  showAround(index: number): void {
    this.#show({ from: index - 60, to: index + 40 });
  }

  showLast(): void {
    this.#chart.timeScale().scrollToRealTime();
  }

  /** Scroll by this many bars; a positive number scrolls to the right. */
  scroll(bars: number): void {
    const range = this.#asked ?? this.range();
    if (range !== null) this.#show({ from: range.from + bars, to: range.to + bars });
  }

  zoom(factor: number): void {
    const range = this.#asked ?? this.range();
    if (range !== null) this.#show({ from: range.to - (range.to - range.from) * factor, to: range.to });
  }

  /** Format ticks and prices again, for example after the clock setting has changed. */
  rewrite(): void {
    this.#chart.applyOptions({});
    this.#chart.timeScale().applyOptions({ timeVisible: true });
  }

  remove(): void {
    this.#chart.remove();
  }

  #show(range: IRange<number>): void {
    this.#chart.timeScale().setVisibleLogicalRange(range);
    if (this.#asked === null) requestAnimationFrame(() => (this.#asked = null));
    this.#asked = range;
  }

  #volumeOf(bar: Bar): { time: UTCTimestamp; value: number; color: string } {
    return { time: timeOf(bar.openMs), value: bar.volume, color: faded(bar.close >= bar.open ? this.#colours.up : this.#colours.down) };
  }

  #each(draw: (series: ISeriesApi<SeriesType>, values: readonly (number | null)[]) => void, bars: readonly Bar[]): void {
    for (const { overlay, series } of this.#overlays)
      overlay.compute(bars).forEach((values, i) => {
        const one = series[i];
        if (one !== undefined) draw(one, values);
      });
  }
}

function candle({ openMs, open, high, low, close }: Bar) {
  return { time: timeOf(openMs), open, high, low, close };
}

function pointing({ rule_type: rule, shadow }: Alert): Pick<SeriesMarker<Time>, "position" | "shape"> & { position: "belowBar" | "aboveBar" } {
  if (shadow === true) return { position: /bull|bottom/.test(rule) ? "belowBar" : "aboveBar", shape: "square" };
  if (/bull|bottom/.test(rule)) return { position: "belowBar", shape: "arrowUp" };
  if (/bear|top/.test(rule)) return { position: "aboveBar", shape: "arrowDown" };
  return { position: "aboveBar", shape: "circle" };
}
