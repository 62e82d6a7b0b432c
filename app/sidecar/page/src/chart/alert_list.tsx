/** The alerts of the chart as a list: the markers' content for keyboard users and screen readers. */
import type { Alert } from "../client/types";
import { percent, shortTime } from "../parts/format";
import { Grid, type Column } from "../parts/grid";
import { RuleName } from "../parts/rule_name";
import { SeverityMark } from "../parts/severity";
import { nowMs } from "../state/now";

const COLUMNS: readonly Column<Alert>[] = [
  {
    id: "rule",
    title: "Rule",
    width: 9.5,
    cell: (alert) => (
      <>
        <SeverityMark severity={alert.severity} short />{" "}
        {alert.shadow === true && (
          <span class="warn" role="img" aria-label="shadow" title="Of a rule in the shadow: told to nobody">
            ◐{" "}
          </span>
        )}
        <RuleName rule={alert.rule_type} />
      </>
    ),
  },
  { id: "time", title: "Time", width: 5.2, cell: (alert) => shortTime(alert.timestamp, nowMs.value) },
  {
    id: "change",
    title: "5m",
    width: 4.8,
    numeric: true,
    cell: (alert) => percent(alert.metadata["price_change_5m"]),
  },
];

export function ChartAlerts({ alerts, onOpen }: { alerts: readonly Alert[]; onOpen(alert: Alert): void }) {
  return (
    <aside class="chart-alerts" aria-label="Alerts of this chart">
      <Grid
        label="Alerts of this chart"
        rows={alerts}
        keyOf={(alert) => alert.id}
        columns={COLUMNS}
        onOpen={onOpen}
        empty="No alerts within these candles."
      />
    </aside>
  );
}
