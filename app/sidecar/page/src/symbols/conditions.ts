/** Bounds of columns, as the address holds them: `price_change:5m>1,rsi_14:15m<30`. */
import type { Metrics } from "../client/types";
import { METRIC_COLUMNS, valueOf } from "./metric_table";

export interface Condition {
  column: string;
  above: boolean;
  bound: number;
}

export function conditionsOf(text: string | null): Condition[] {
  return (text ?? "").split(",").flatMap((part) => {
    const found = /^([^<>]+)([<>])(.+)$/.exec(part);
    const bound = Number(found?.[3]);
    if (found === null || found[1] === undefined || !METRIC_COLUMNS.has(found[1]) || !Number.isFinite(bound)) return [];
    return [{ column: found[1], above: found[2] === ">", bound }];
  });
}

export const textOf = (conditions: readonly Condition[]): string =>
  conditions.map(({ column, above, bound }) => `${column}${above ? ">" : "<"}${bound}`).join(",");

/** Return whether a row satisfies all conditions. A null value satisfies none. */
export function satisfies(row: Metrics, conditions: readonly Condition[]): boolean {
  return conditions.every(({ column, above, bound }) => {
    const metric = METRIC_COLUMNS.get(column);
    const value = metric === undefined ? null : valueOf(row, metric) ?? null;
    return value !== null && (above ? value > bound : value < bound);
  });
}

/** Return the conditions with one bound set, or removed if `bound` is null. */
export function bounded(conditions: readonly Condition[], column: string, above: boolean, bound: number | null): Condition[] {
  const others = conditions.filter((one) => one.column !== column || one.above !== above);
  return bound === null ? others : [...others, { column, above, bound }];
}
