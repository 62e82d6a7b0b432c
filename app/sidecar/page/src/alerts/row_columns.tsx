/** The columns of the list of alerts: all of them on a wide page, only the needed ones on a phone. */
import type { Alert } from "../client/types";
import { amount, percent, price, shortTime } from "../parts/format";
import type { Column } from "../parts/grid";
import { RuleName } from "../parts/rule_name";
import { SeverityMark } from "../parts/severity";
import { nowMs } from "../state/now";
import type { AlertRow } from "./groups";

const newestOf = (row: AlertRow): Alert => (row.kind === "alert" ? row.alert : row.newest);

function symbolText(row: AlertRow) {
  if (row.kind === "group") return `${row.open ? "▾" : "▸"} ${row.alerts.length} symbols`;
  return row.inGroup ? `· ${row.alert.symbol}` : row.alert.symbol;
}

function changeColumn(timeframe: string): Column<AlertRow> {
  const of = (row: AlertRow) => (row.kind === "alert" ? row.alert.metadata[`price_change_${timeframe}`] ?? null : null);
  return {
    id: timeframe,
    title: timeframe,
    hint: `Price change within ${timeframe}`,
    width: 5.8,
    numeric: true,
    cell: (row) => (row.kind === "group" ? "" : percent(of(row))),
    look: (row) => (!of(row) ? "" : (of(row) ?? 0) > 0 ? "up" : "down"),
  };
}

const time: Column<AlertRow> = { id: "time", title: "Time", width: 7, cell: (row) => shortTime(newestOf(row).timestamp, nowMs.value) };
const symbol: Column<AlertRow> = { id: "symbol", title: "Symbol", width: 9, cell: symbolText };
const rule: Column<AlertRow> = { id: "rule", title: "Rule", width: 15, cell: (row) => <RuleName rule={newestOf(row).rule_type} /> };

export const WIDE_COLUMNS: readonly Column<AlertRow>[] = [
  { ...symbol, width: 10 },
  time,
  { id: "severity", title: "Severity", width: 6.5, cell: (row) => <SeverityMark severity={newestOf(row).severity} /> },
  rule,
  { id: "price", title: "Price", width: 7, numeric: true, cell: (row) => (row.kind === "group" ? "" : price(row.alert.price)) },
  changeColumn("5m"),
  changeColumn("1h"),
  changeColumn("1d"),
  {
    id: "turnover",
    title: "Turnover 5m",
    width: 6.5,
    numeric: true,
    cell: (row) => (row.kind === "group" ? "" : amount(row.alert.metadata["volume_5m"])),
  },
  {
    id: "description",
    title: "Description",
    width: 16,
    cell: (row) => (row.kind === "group" ? row.alerts.map((alert) => alert.symbol).join(", ") : row.alert.description),
  },
];

export const NARROW_COLUMNS: readonly Column<AlertRow>[] = [
  {
    ...symbol,
    width: 9,
    cell: (row) => (
      <>
        <SeverityMark severity={newestOf(row).severity} short /> {symbolText(row)}
      </>
    ),
  },
  { ...time, width: 5 },
  { ...rule, width: 10 },
  changeColumn("5m"),
];
