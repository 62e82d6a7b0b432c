/** The overlays that can be drawn over and below the candles: lines with their colours and panes. */
import { isTexts, kept } from "../state/preferences";
import type { Bar } from "./bars";
import { bollinger, emaOfBars, ichimoku, macd, rsi, vwapOfDay, type Series } from "./indicators";

export interface Line {
  name: string;
  /** A colour's name in style/colours.css. */
  colour: string;
  kind: "line" | "histogram";
  dashed?: boolean;
}

export interface Overlay {
  id: string;
  title: string;
  unit: "price" | "level";
  /** Whether it is drawn in a pane of its own. */
  ownPane: boolean;
  lines: readonly Line[];
  /** The values of each line, one per bar. */
  compute(bars: readonly Bar[]): readonly Series[];
}

const line = (name: string, colour: string, dashed = false): Line => ({ name, colour, kind: "line", dashed });

export const OVERLAYS: readonly Overlay[] = [
  { id: "vwap", title: "VWAP", unit: "price", ownPane: false, lines: [line("VWAP", "--line-1")], compute: (bars) => [vwapOfDay(bars)] },
  {
    id: "ema",
    title: "EMA",
    unit: "price",
    ownPane: false,
    lines: [line("EMA 20", "--line-2"), line("EMA 50", "--line-3")],
    compute: (bars) => [emaOfBars(bars, 20), emaOfBars(bars, 50)],
  },
  {
    id: "bollinger",
    title: "Bollinger",
    unit: "price",
    ownPane: false,
    lines: [line("BB upper", "--line-4"), line("BB middle", "--line-4", true), line("BB lower", "--line-4")],
    compute: (bars) => {
      const { upper, middle, lower } = bollinger(bars);
      return [upper, middle, lower];
    },
  },
  {
    id: "ichimoku",
    title: "Ichimoku",
    unit: "price",
    ownPane: false,
    lines: [line("Conversion", "--line-1", true), line("Base", "--line-2", true), line("Span A", "--up"), line("Span B", "--down")],
    compute: (bars) => {
      const { conversion, base, spanA, spanB } = ichimoku(bars);
      return [conversion, base, spanA, spanB];
    },
  },
  { id: "rsi", title: "RSI", unit: "level", ownPane: true, lines: [line("RSI 14", "--line-3")], compute: (bars) => [rsi(bars)] },
  {
    id: "macd",
    title: "MACD",
    unit: "price",
    ownPane: true,
    lines: [{ name: "Histogram", colour: "--faint", kind: "histogram" }, line("MACD", "--line-1"), line("Signal", "--line-2")],
    compute: (bars) => {
      const found = macd(bars);
      return [found.histogram, found.line, found.signal];
    },
  },
];

export const chosenOverlays = kept<string[]>("overlays", ["ema"], isTexts);

export function toggleOverlay(id: string): void {
  const others = chosenOverlays.value.filter((one) => one !== id);
  chosenOverlays.value = others.length < chosenOverlays.value.length ? others : [...others, id];
}
