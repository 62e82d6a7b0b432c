/** The state of every stage and server, in words. */
import { duration, NOTHING, number } from "../parts/format";
import { health, lateByS } from "../state/health";
import type { Stage, StageState } from "../client/types";

const WORDS: Record<StageState, string> = {
  fresh: "up to date",
  stale: "sends nothing new",
  behind: "behind its work",
  stuck: "stands still",
  silent: "gives no sign",
  absent: "not installed",
  unknown: "unknown while Redis is down",
};

function StageRow({ name, stage }: { name: string; stage: Stage }) {
  const age = lateByS(stage);
  const waiting = Object.values(stage.work).reduce((sum, one) => sum + one.waiting, 0);
  return (
    <tr class={stage.state === "fresh" || stage.state === "absent" ? "" : "bad"}>
      <th scope="row">{name}</th>
      <td>{WORDS[stage.state]}</td>
      <td class="number">{age === null ? NOTHING : duration(age)}</td>
      <td class="number">{number(waiting, 0)}</td>
    </tr>
  );
}

export function HealthReport() {
  const known = health.value;
  if (known === null) return <p class="empty">The screener has not answered yet.</p>;
  const { stages, dependencies, rules } = known.report;
  return (
    <>
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Stage</th>
            <th scope="col">State</th>
            <th scope="col" class="number">
              Age
            </th>
            <th scope="col" class="number">
              Waiting
            </th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(stages).map(([name, stage]) => (
            <StageRow key={name} name={name} stage={stage} />
          ))}
          {Object.entries(dependencies).map(([name, server]) => (
            <tr key={name} class={server.state === "up" ? "" : "bad"}>
              <th scope="row">{name}</th>
              <td>{server.state}</td>
              <td class="number">{NOTHING}</td>
              <td class="number">{NOTHING}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {rules.switched_off > 0 && <p class="bad">Rules that raised an error and are off until edited: {rules.which.join(", ")}.</p>}
    </>
  );
}
