/** The symbols view: all symbols, with the metrics that the user chose. */
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Metrics } from "../client/types";
import { Dialog } from "../parts/dialog";
import { Grid, type Column, type Order } from "../parts/grid";
import { useKeys } from "../shell/keys";
import { choose, go, route } from "../shell/route";
import { askWhy } from "../shell/why";
import { market } from "../state/market_now";
import { nowMs } from "../state/now";
import { FIRST_LIST, listOf, toggleWatched, watched } from "../state/watchlists";
import { ColumnChooser } from "./column_chooser";
import { choiceFor, chosenColumns } from "./columns";
import { ConditionForm } from "./condition_form";
import { conditionsOf, satisfies, type Condition } from "./conditions";
import { ListChoice } from "./list_choice";
import { valueOf, type MetricColumn } from "./metric_table";
import { held, sorted } from "./rows";
import { MarketSummary } from "./summary";

const UPDATE_EVERY_MS = 250;
const HELD_AFTER_KEY_MS = 5000;
const STALE_AFTER_MS = 60_000;
const FIRST_ORDER: Order = { column: "price_change:5m", descending: true };

const lookOf = (value: number | null | undefined): string => (!value ? "" : value > 0 ? "up" : "down");

function gridColumn(column: MetricColumn): Column<Metrics> {
  const { metric, timeframe, id } = column;
  const made: Column<Metrics> = {
    id,
    title: metric.field === "close" ? metric.title : `${metric.title} ${timeframe}`,
    width: metric.width ?? 7.2,
    numeric: true,
    sortable: true,
    cell: (row) => metric.write(valueOf(row, column) ?? null),
  };
  if (metric.signed === true) made.look = (row) => lookOf(valueOf(row, column));
  return made;
}

function nameColumn(list: string): Column<Metrics> {
  return {
    id: "symbol",
    title: "Symbol",
    width: 9.5,
    sortable: true,
    cell: ({ symbol }) => {
      const on = list === FIRST_LIST || !list ? watched.value.has(symbol) : listOf(list)?.symbols.includes(symbol);
      return (
        <>
          <button
            class="star"
            tabIndex={-1}
            aria-label={`${on ? "Take" : "Put"} ${symbol} ${on ? "off" : "on"} the list`}
            onClick={(event) => {
              event.stopPropagation();
              toggleWatched(list || FIRST_LIST, symbol);
            }}
          >
            {on ? "★" : "☆"}
          </button>
          {symbol}
        </>
      );
    },
  };
}

/** Read the order from the address: `-price_change:5m` is descending. */
function orderOf(text: string | null): Order {
  if (!text) return FIRST_ORDER;
  return text.startsWith("-") ? { column: text.slice(1), descending: true } : { column: text, descending: false };
}

function isStale(row: Metrics): boolean {
  return nowMs.value - Date.parse(row.timestamp) > STALE_AFTER_MS;
}

function rowsFor(wanted: string, list: string, conditions: readonly Condition[]): Metrics[] {
  const symbols = list ? new Set(listOf(list)?.symbols) : null;
  return [...market.values.values()].filter(
    (row) => row.symbol.toUpperCase().includes(wanted) && (symbols === null || symbols.has(row.symbol)) && satisfies(row, conditions),
  );
}

export default function SymbolsView() {
  const columnsOpen = useSignal(false);
  const conditionsOpen = useSignal(false);
  const pointing = useSignal(false);
  const keyUsedMs = useRef(0);
  const search = useRef<HTMLInputElement>(null);
  const heldKeys = useRef<readonly string[] | null>(null);
  const { query } = route.value;
  const [wanted, list] = [(query.get("find") ?? "").toUpperCase(), query.get("list") ?? ""];
  const columns = useComputed(() => [nameColumn(route.value.query.get("list") ?? ""), ...chosenColumns.value.map(gridColumn)]);
  const order = orderOf(query.get("sort"));
  const conditions = conditionsOf(query.get("where"));

  useEffect(() => {
    const sortedBy = order.column === "symbol" ? [] : [order.column];
    market.choose(choiceFor(chosenColumns.value, [...sortedBy, ...conditions.map((one) => one.column)], UPDATE_EVERY_MS));
  }, [chosenColumns.value, order.column, query.get("where")]);
  useEffect(() => () => market.choose(null), []);
  useKeys("Symbols", [
    { key: "/", does: "Find a symbol", run: () => search.current?.focus() },
    { key: "o", does: "Choose columns", run: () => (columnsOpen.value = true) },
    { key: "b", does: "Bounds of columns", run: () => (conditionsOpen.value = true) },
    { key: "f", does: "On a symbol: put it on the list, or take it off", run: () => undefined },
    { key: "w", does: "On a symbol: why a rule fires, or not", run: () => undefined },
  ]);

  void market.changes.value;
  // while the pointer or the keyboard is on the rows only their values change: a row that moves away cannot be chosen
  const holding = pointing.value || Date.now() - keyUsedMs.current < HELD_AFTER_KEY_MS;
  const choices = JSON.stringify([wanted, list, conditions, order]);
  const choicesBefore = useRef(choices);
  if (choicesBefore.current !== choices) heldKeys.current = null;
  choicesBefore.current = choices;
  const found = rowsFor(wanted, list, conditions);
  const rows = holding && heldKeys.current !== null ? held(found, heldKeys.current) : sorted(found, order);
  // an empty table has no order to hold: the first rows come sorted
  heldKeys.current = rows.length > 0 ? rows.map((row) => row.symbol) : null;
  const stale = [...market.values.values()].filter(isStale).length;

  function onRowKey(row: Metrics, key: string): boolean {
    if (key === "w") askWhy(row.symbol);
    else if (key === "c") go("chart", [row.symbol]);
    else if (key === "f") toggleWatched(list || FIRST_LIST, row.symbol);
    else return false;
    return true;
  }

  return (
    <section class="view" aria-labelledby="symbols-title" onKeyDown={() => (keyUsedMs.current = Date.now())}>
      <MarketSummary stale={stale} />
      <div class="bar">
        <h2 id="symbols-title">Symbols</h2>
        <input
          ref={search}
          type="search"
          placeholder="Find (/)"
          aria-label="Find a symbol"
          spellcheck={false}
          value={query.get("find") ?? ""}
          onInput={(event) => choose({ find: event.currentTarget.value })}
        />
        <ListChoice list={list} />
        <button onClick={() => (columnsOpen.value = true)}>Columns</button>
        <button aria-pressed={conditions.length > 0} onClick={() => (conditionsOpen.value = true)}>
          Bounds{conditions.length > 0 ? ` (${conditions.length})` : ""}
        </button>
        <span class="faint count" role="status">
          {rows.length === market.values.size ? `${rows.length}` : `${rows.length} of ${market.values.size}`} symbols
        </span>
        <span class="faint held">{holding ? "order held while you are on it" : ""}</span>
      </div>
      <Grid
        label="Symbols"
        rows={rows}
        keyOf={(row) => row.symbol}
        columns={columns.value}
        order={order}
        onSort={(column) => choose({ sort: `${order.column === column ? (order.descending ? "" : "-") : column === "symbol" ? "" : "-"}${column}` })}
        onOpen={(row) => go("chart", [row.symbol])}
        onKey={onRowKey}
        onPointing={(inside) => (pointing.value = inside)}
        lookOf={(row) => (isStale(row) ? "stale" : "")}
        empty={emptyText(list)}
      />
      <Dialog open={columnsOpen} title="Columns" wide>
        <ColumnChooser />
      </Dialog>
      <Dialog open={conditionsOpen} title="Bounds of columns">
        <ConditionForm />
      </Dialog>
    </section>
  );
}

function emptyText(list: string): string {
  if (!market.complete.value) return "Waiting for the first values…";
  if (list && listOf(list)?.symbols.length === 0) return "This list is empty: on a symbol, f or its star puts it here.";
  return "No symbol fits.";
}
