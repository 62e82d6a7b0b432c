/** The user's webhook: its URL, the secret that signs its messages, and a test message. */
import { useSignal } from "@preact/signals";
import { send, wordsOf } from "../client/rest";
import { longTime } from "../parts/format";
import { readDeliveries } from "./deliveries";
import type { SettingsState, UserSettings } from "./settings";

const REASONS: Record<string, string> = {
  off: "you switched it off",
  bad_url: "its URL is not allowed",
  gone: "it answered 410",
  exhausted: "no message got through for days",
};

export function Webhook({ settings, known }: { settings: SettingsState; known: UserSettings }) {
  const words = useSignal<string | null>(null);
  const fault = useSignal<string | null>(null);
  const shown = useSignal(false);
  const { webhook } = known;

  async function act(work: () => Promise<unknown>, done: string): Promise<void> {
    fault.value = words.value = null;
    try {
      await work();
      words.value = done;
      void readDeliveries();
    } catch (error) {
      fault.value = wordsOf(error);
    }
  }

  function save(event: SubmitEvent): void {
    event.preventDefault();
    const url = String(new FormData(event.currentTarget as HTMLFormElement).get("url") ?? "").trim();
    void settings.change(url === "" ? { webhook_url: null } : { webhook_url: url, notification_enabled: true });
  }

  return (
    <>
      <form class="add" onSubmit={save}>
        <label class="field grow">
          URL: https, a public address
          <input name="url" type="url" maxLength={2048} placeholder="https://" defaultValue={known.webhook_url ?? ""} key={known.webhook_url} />
        </label>
        <button class="main">Save</button>
      </form>
      {settings.fault !== null && (
        <p class="bad" role="alert">
          {settings.fault}
        </p>
      )}
      {webhook === null ? (
        <p class="faint">Your alerts are posted to this URL, signed. The format follows from the host: Slack, Discord, Telegram, or plain JSON.</p>
      ) : (
        <>
          <dl class="facts">
            <dt>State</dt>
            <dd class={webhook.enabled ? "up" : "bad"}>{webhook.enabled ? "on" : `off: ${REASONS[webhook.disabled_reason ?? ""] ?? webhook.disabled_reason}`}</dd>
            <dt>Format</dt>
            <dd>{webhook.format}</dd>
            <dt>Last success</dt>
            <dd>{webhook.last_success === null ? "none yet" : longTime(webhook.last_success)}</dd>
            <dt>Failures since</dt>
            <dd>{webhook.failures}</dd>
            <dt>Secret</dt>
            <dd>
              {shown.value ? <code class="secret">{webhook.secret}</code> : "hidden"}{" "}
              <button class="quiet" onClick={() => (shown.value = !shown.value)}>
                {shown.value ? "Hide" : "Show"}
              </button>
            </dd>
          </dl>
          <div class="buttons">
            <button onClick={() => void act(() => send("POST", "api/webhook/test"), "A test message is on its way: its delivery is listed below.")} disabled={!webhook.enabled}>
              Send a test
            </button>
            <button onClick={() => void settings.change({ notification_enabled: !known.notification_enabled })}>{known.notification_enabled ? "Switch off" : "Switch on"}</button>
            {(webhook.disabled_reason === "gone" || webhook.disabled_reason === "exhausted") && (
              <button onClick={() => void act(() => send("POST", "api/webhook", { enabled: true }).then(() => settings.change({})), "It is on again.")}>Try it again</button>
            )}
            <button onClick={() => void act(() => send("POST", "api/webhook/secret", {}).then(() => settings.change({})), "Messages carry signatures of the new and the old secret for 24 hours.")}>
              New secret
            </button>
          </div>
        </>
      )}
      <p role="status">{words.value}</p>
      {fault.value !== null && (
        <p class="bad" role="alert">
          {fault.value}
        </p>
      )}
    </>
  );
}
