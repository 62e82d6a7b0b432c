/** The quiet hours, in which the page makes no sound and shows no notification. */
import { isQuiet, isTimeOfDay, quietHours } from "../state/quiet";

export function QuietHours() {
  const { enabled, start, end } = quietHours.value;
  const set = (name: "start" | "end", text: string): void => {
    if (isTimeOfDay(text)) quietHours.value = { ...quietHours.value, [name]: text };
  };
  return (
    <>
      <label>
        <input type="checkbox" checked={enabled} onChange={(event) => (quietHours.value = { ...quietHours.value, enabled: event.currentTarget.checked })} />
        No sound and no desktop notification
      </label>
      <div class="add">
        <label class="field">
          From
          <input type="time" value={start} disabled={!enabled} onChange={(event) => set("start", event.currentTarget.value)} />
        </label>
        <label class="field">
          Until
          <input type="time" value={end} disabled={!enabled} onChange={(event) => set("end", event.currentTarget.value)} />
        </label>
      </div>
      <p class="faint" role="status">
        {enabled ? (isQuiet() ? "It is quiet now. Alerts are still listed." : "It is not quiet now.") : "Local time. Alerts are still listed, and webhooks are still sent."}
      </p>
    </>
  );
}
