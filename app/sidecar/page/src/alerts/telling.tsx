/** The settings for sounds, notifications and mutes. */
import { useSignal } from "@preact/signals";
import { SEVERITIES, type Severity } from "../client/types";
import { duration } from "../parts/format";
import { SeverityMark } from "../parts/severity";
import { mutes, unmute } from "../state/mutes";
import { nowMs } from "../state/now";
import { askToNotify, notifies, notifiesFor, play, soundsFor } from "./sounds";

const without = (words: readonly string[], word: string): string[] => words.filter((one) => one !== word);

function SeverityRow({ severity }: { severity: Severity }) {
  return (
    <tr>
      <th scope="row">
        <SeverityMark severity={severity} />
      </th>
      <td>
        <input
          type="checkbox"
          aria-label={`Sound for ${severity}`}
          checked={soundsFor.value.includes(severity)}
          onChange={(event) => {
            soundsFor.value = [...without(soundsFor.value, severity), ...(event.currentTarget.checked ? [severity] : [])];
          }}
        />
        <button class="quiet" aria-label={`Hear the sound for ${severity}`} onClick={() => play(severity)}>
          ♪
        </button>
      </td>
      <td>
        <input
          type="checkbox"
          aria-label={`Notification for ${severity}`}
          disabled={!notifies.value}
          checked={notifiesFor.value.includes(severity)}
          onChange={(event) => {
            notifiesFor.value = [...without(notifiesFor.value, severity), ...(event.currentTarget.checked ? [severity] : [])];
          }}
        />
      </td>
    </tr>
  );
}

export function Telling() {
  const fault = useSignal<string | null>(null);
  return (
    <>
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Severity</th>
            <th scope="col">Sound</th>
            <th scope="col">Desktop notification</th>
          </tr>
        </thead>
        <tbody>
          {SEVERITIES.map((severity) => (
            <SeverityRow key={severity} severity={severity} />
          ))}
        </tbody>
      </table>
      <p class="choice">
        {notifies.value ? (
          <button onClick={() => (notifies.value = false)}>Stop desktop notifications</button>
        ) : (
          <button onClick={async () => (fault.value = await askToNotify())}>Allow desktop notifications</button>
        )}
      </p>
      <p class="bad" role="alert">
        {fault.value}
      </p>
      <h3>Muted</h3>
      {mutes.value.length === 0 && <p class="faint">Nothing is muted. On an alert, m mutes its symbol and Shift+M its rule.</p>}
      <ul class="plain-list">
        {mutes.value.map(({ kind, name, until }) => (
          <li key={`${kind} ${name}`}>
            {kind} <strong>{name}</strong> {until !== null && `for ${duration((Date.parse(until) - nowMs.value) / 1000)} more`}{" "}
            <button onClick={() => unmute(kind, name)} aria-label={`Unmute ${kind} ${name}`}>
              Unmute
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}
