/** A severity as a word, a shape and a colour: any one of them is enough. */
import type { Severity } from "../client/types";

const SHAPES: Record<Severity, string> = { critical: "◆", high: "▲", medium: "●", low: "▽", info: "○" };

export function SeverityMark({ severity, short = false }: { severity: Severity; short?: boolean }) {
  return (
    <span class={`severity ${SHAPES[severity] === undefined ? "info" : severity}`} title={severity}>
      <span aria-hidden="true">{SHAPES[severity] ?? "○"}</span>
      {short ? <span class="unseen"> {severity}</span> : ` ${severity}`}
    </span>
  );
}
