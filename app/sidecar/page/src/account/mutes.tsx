/** The muted symbols and rules: the page makes no sound for their alerts and hides them in lists. */
import { longTime } from "../parts/format";
import { mutes, unmute } from "../state/mutes";

export function Mutes() {
  if (mutes.value.length === 0) return <p class="faint">Nothing is muted. A symbol or a rule is muted among the alerts.</p>;
  return (
    <ul class="plain-list">
      {mutes.value.map(({ kind, name, until }) => (
        <li key={`${kind} ${name}`}>
          {kind} {name}, {until === null ? "until you take it back" : `until ${longTime(until)}`}{" "}
          <button class="quiet" aria-label={`Unmute ${name}`} onClick={() => unmute(kind, name)}>
            ✕
          </button>
        </li>
      ))}
    </ul>
  );
}
