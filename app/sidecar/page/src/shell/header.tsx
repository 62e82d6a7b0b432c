/** The header, always visible: whether the page is connected, how old the data is, who is signed in, and two switches. */
import { useSignal } from "@preact/signals";
import { live } from "../client/live";
import { session } from "../client/session";
import { Dialog } from "../parts/dialog";
import { duration } from "../parts/format";
import { dataAgeS, downServers, health, lateStages, unanswered } from "../state/health";
import { nowMs } from "../state/now";
import { clock, isDark, theme } from "../state/preferences";
import { HealthReport } from "./health_report";
import { SignIn } from "./sign_in";

type Look = "fine" | "waiting" | "bad";

function connectionWords(): { text: string; look: Look } {
  const state = live.state.value;
  if (state.kind === "open") return { text: "Live", look: "fine" };
  if (state.kind === "connecting") return { text: "Connecting…", look: "waiting" };
  const inS = Math.max(1, Math.ceil((state.again - nowMs.value) / 1000));
  const why = state.why === "restarting" ? "The screener restarts" : "Connection lost";
  return { text: `${why}, next try in ${inS} s`, look: "bad" };
}

function dataWords(): { text: string; look: Look } {
  if (health.value === null) return unanswered.value ? { text: "No answer", look: "bad" } : { text: "Age of data…", look: "waiting" };
  const needed = downServers.value.find((server) => server.needed);
  if (needed !== undefined) return { text: `${needed.name} is down`, look: "bad" };
  const [late] = lateStages.value;
  if (late !== undefined) return { text: `${late.name} late${late.lateS === null ? "" : `: ${duration(late.lateS)}`}`, look: "bad" };
  const age = dataAgeS.value;
  if (age === null) return { text: "No data yet", look: "waiting" };
  return { text: `Data ${duration(age)} old`, look: unanswered.value ? "bad" : "fine" };
}

const MARKS: Record<Look, string> = { fine: "●", waiting: "◐", bad: "▲" };

function Sign({ text, look }: { text: string; look: Look }) {
  return (
    <span class={`sign ${look}`}>
      <span aria-hidden="true">{MARKS[look]}</span> {text}
    </span>
  );
}

export function Header({ onKeys }: { onKeys(): void }) {
  const healthOpen = useSignal(false);
  const signInOpen = useSignal(false);
  const connection = connectionWords();
  return (
    <header>
      <h1>Screener</h1>
      <span role="status" class="connection">
        <Sign {...connection} />
      </span>
      <button class="quiet data-age" onClick={() => (healthOpen.value = true)} title="How each stage is">
        <Sign {...dataWords()} />
      </button>
      <span class="room" />
      <button class="quiet wide-only" onClick={() => (clock.value = clock.value === "utc" ? "local" : "utc")} title="Times local or UTC (z)">
        {clock.value === "utc" ? "UTC" : "Local time"}
      </button>
      <button class="quiet wide-only" onClick={() => (theme.value = isDark() ? "light" : "dark")} title="Light or dark (t)">
        {isDark() ? "Dark" : "Light"}
      </button>
      <button class="quiet" onClick={onKeys} aria-label="Keys and choices" title="Keys and choices (?)">
        ?
      </button>
      <button class="quiet user" onClick={() => (signInOpen.value = true)}>
        {session.value === null ? "Sign in" : session.value.user}
      </button>
      <Dialog open={healthOpen} title="How each stage is">
        <HealthReport />
      </Dialog>
      <Dialog open={signInOpen} title={session.value === null ? "Sign in" : "Signed in"}>
        <SignIn onDone={() => (signInOpen.value = false)} />
      </Dialog>
    </header>
  );
}
