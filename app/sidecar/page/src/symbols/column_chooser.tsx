/** Every metric of every timeframe, to switch on and off. */
import { TIMEFRAMES } from "../client/types";
import { chosenColumns, show, showFirstColumns } from "./columns";
import { METRIC_COLUMNS, METRIC_FIELDS } from "./metric_table";

export function ColumnChooser() {
  const chosen = new Set(chosenColumns.value.map((column) => column.id));
  return (
    <>
      <p>
        <button onClick={showFirstColumns}>Back to the first columns</button>
      </p>
      <div class="wide-table">
        <table class="plain choices">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              {TIMEFRAMES.map((timeframe) => (
                <th scope="col" key={timeframe}>
                  {timeframe}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {METRIC_FIELDS.map((metric) => (
              <tr key={`${metric.field}.${metric.part ?? ""}`}>
                <th scope="row">{metric.title}</th>
                {TIMEFRAMES.map((timeframe) => {
                  const id = `${metric.field}${metric.part === undefined ? "" : `.${metric.part}`}:${timeframe}`;
                  return (
                    <td key={timeframe}>
                      {METRIC_COLUMNS.has(id) && (
                        <input
                          type="checkbox"
                          aria-label={`${metric.title} ${timeframe}`}
                          checked={chosen.has(id)}
                          onChange={(event) => show(id, event.currentTarget.checked)}
                        />
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
