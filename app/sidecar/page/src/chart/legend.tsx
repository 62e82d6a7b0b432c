/** The values of the bar under the pointer, or of the last one; on one line unless the screen is narrow. */
import { amount, longTime, percent, price } from "../parts/format";
import type { Bar } from "./bars";

export function Legend({ bar, before }: { bar: Bar | undefined; before: Bar | undefined }) {
  if (bar === undefined) return <p class="legend">&nbsp;</p>;
  const change = before === undefined ? null : (bar.close / before.close - 1) * 100;
  return (
    <p class="legend">
      <span class="faint">{longTime(bar.openMs)}</span>{" "}
      {(["open", "high", "low", "close"] as const).map((name) => (
        <span key={name} class="legend-value">
          {name.charAt(0).toUpperCase()} {price(bar[name])}{" "}
        </span>
      ))}
      <span class={`legend-value ${change === null || change === 0 ? "" : change > 0 ? "up" : "down"}`}>{percent(change)}</span> Turnover{" "}
      {amount(bar.turnover)}
    </p>
  );
}
