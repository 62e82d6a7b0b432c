/** The order of the rows of symbols: sorted by a column, or held. */
import type { Metrics, Value } from "../client/types";
import type { Order } from "../parts/grid";
import { METRIC_COLUMNS, valueOf } from "./metric_table";

type SortValue = Value | string | undefined;

function sortValue(row: Metrics, column: string): SortValue {
  const metric = METRIC_COLUMNS.get(column);
  return metric === undefined ? row.symbol : valueOf(row, metric);
}

/** Sort rows by a column. Nulls come last in both directions; equal values are ordered by name. */
export function sorted(rows: readonly Metrics[], order: Order): Metrics[] {
  const sign = order.descending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, value: sortValue(row, order.column) ?? null }));
  keyed.sort((one, other) => {
    const [a, b] = [one.value, other.value];
    if (a === null || b === null) return Number(a === null) - Number(b === null) || byName(one.row, other.row);
    const difference = typeof a === "number" && typeof b === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
    return sign * difference || byName(one.row, other.row);
  });
  return keyed.map(({ row }) => row);
}

const byName = (one: Metrics, other: Metrics): number => (one.symbol < other.symbol ? -1 : 1);

/** Return the rows in the order of `keys`; rows that are not in `keys` come at the end. */
export function held(rows: readonly Metrics[], keys: readonly string[]): Metrics[] {
  const bySymbol = new Map(rows.map((row) => [row.symbol, row]));
  const staying = keys.flatMap((key) => {
    const row = bySymbol.get(key);
    bySymbol.delete(key);
    return row ?? [];
  });
  return [...staying, ...bySymbol.values()];
}
