/** A form for the lower and the upper bound of each chosen column. */
import { choose, route } from "../shell/route";
import { bounded, conditionsOf, textOf } from "./conditions";
import { chosenColumns } from "./columns";

export function ConditionForm() {
  const conditions = conditionsOf(route.value.query.get("where"));
  const boundOf = (column: string, above: boolean): string =>
    String(conditions.find((one) => one.column === column && one.above === above)?.bound ?? "");
  function set(column: string, above: boolean, text: string): void {
    const bound = text.trim() === "" ? null : Number(text);
    if (bound === null || Number.isFinite(bound)) choose({ where: textOf(bounded(conditions, column, above, bound)) });
  }
  return (
    <>
      <p>
        <button onClick={() => choose({ where: null })}>Show all again</button>
      </p>
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Column</th>
            <th scope="col">Above</th>
            <th scope="col">Below</th>
          </tr>
        </thead>
        <tbody>
          {chosenColumns.value.map(({ id, metric, timeframe }) => (
            <tr key={id}>
              <th scope="row">
                {metric.title} {timeframe}
              </th>
              {[true, false].map((above) => (
                <td key={String(above)}>
                  <input
                    type="number"
                    step="any"
                    size={8}
                    aria-label={`${metric.title} ${timeframe} ${above ? "above" : "below"}`}
                    defaultValue={boundOf(id, above)}
                    onInput={(event) => set(id, above, event.currentTarget.value)}
                  />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
