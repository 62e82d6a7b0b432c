/** The chosen columns, and the values that they need. */
import { computed } from "@preact/signals";
import type { Choice } from "../state/market";
import { chosenIds, FIRST_COLUMNS } from "../state/column_ids";
import { METRIC_COLUMNS, type MetricColumn } from "./metric_table";

export const chosenColumns = computed<readonly MetricColumn[]>(() =>
  chosenIds.value.flatMap((id) => METRIC_COLUMNS.get(id) ?? []),
);

export function show(id: string, shown: boolean): void {
  const others = chosenIds.value.filter((one) => one !== id);
  chosenIds.value = shown ? [...others, id] : others;
}

export function showFirstColumns(): void {
  chosenIds.value = [...FIRST_COLUMNS];
}

/** The subscription for these columns and for `further` ones, given by id. It always includes the price. */
export function choiceFor(shown: readonly MetricColumn[], further: readonly string[], intervalMs: number): Choice {
  const columns = [...shown, ...further.flatMap((id) => METRIC_COLUMNS.get(id) ?? [])];
  const timeframes = new Set(columns.map((column) => column.timeframe));
  const fields = new Set(columns.map((column) => column.metric.field));
  return { timeframes: [...timeframes.add("1m")].sort(), fields: [...fields.add("close")].sort(), interval_ms: intervalMs };
}
