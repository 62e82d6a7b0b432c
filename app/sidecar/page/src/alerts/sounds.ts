/** Sounds and desktop notifications for new alerts. */
import { effect } from "@preact/signals";
import { SEVERITIES, type Alert, type Severity } from "../client/types";
import { percent, price } from "../parts/format";
import { addressOf } from "../shell/route";
import { onNewAlerts } from "../state/alerts";
import { isMuted } from "../state/mutes";
import { isFlag, isTexts, kept } from "../state/preferences";
import { isQuiet } from "../state/quiet";

/** Severities with a sound; empty until the user chooses some. */
export const soundsFor = kept<string[]>("sounds", [], isTexts);
export const notifies = kept("notifies", false, isFlag);
export const notifiesFor = kept<string[]>("notifies-for", ["critical", "high"], isTexts);

const AT_MOST_EVERY_MS = 2000;
/** The tones of a severity in hertz, in the order played: the more urgent, the higher and the more tones. */
const TONES: Record<Severity, readonly number[]> = {
  critical: [988, 1319, 988, 1319],
  high: [880, 1109],
  medium: [659],
  low: [523],
  info: [440],
};
const TONE_S = 0.13;
const LOUDNESS = 0.12;

let audio: AudioContext | null = null;

export function play(severity: Severity): void {
  audio ??= new AudioContext();
  void audio.resume();
  const volume = audio.createGain();
  volume.connect(audio.destination);
  TONES[severity].forEach((frequency, i) => {
    if (audio === null) return;
    const at = audio.currentTime + i * TONE_S;
    const tone = audio.createOscillator();
    tone.frequency.value = frequency;
    tone.connect(volume);
    volume.gain.setValueAtTime(LOUDNESS, at);
    volume.gain.exponentialRampToValueAtTime(0.001, at + TONE_S * 0.95);
    tone.start(at);
    tone.stop(at + TONE_S);
  });
}

/** Ask the browser for permission. Returns why there will be no notifications, or null. */
export async function askToNotify(): Promise<string | null> {
  if (!("Notification" in window)) return "This browser shows desktop notifications only over https or on the same machine.";
  const answer = await Notification.requestPermission();
  notifies.value = answer === "granted";
  return answer === "granted" ? null : "The browser was told not to show notifications of this page.";
}

/** Limit how often `tell` is called: alerts that come in between are collected for the next call. */
function spaced(tell: (alerts: readonly Alert[]) => void): (alerts: readonly Alert[]) => void {
  let waiting: Alert[] = [];
  let timer: number | undefined;
  return (alerts) => {
    waiting.push(...alerts);
    if (timer !== undefined || waiting.length === 0) return;
    tell(waiting);
    waiting = [];
    timer = window.setTimeout(() => {
      timer = undefined;
      if (waiting.length > 0) tell(waiting);
      waiting = [];
    }, AT_MOST_EVERY_MS);
  };
}

const worstOf = (alerts: readonly Alert[]): Severity =>
  SEVERITIES.find((severity) => alerts.some((alert) => alert.severity === severity)) ?? "info";

const sound = spaced((alerts) => play(worstOf(alerts)));

const notification = spaced((alerts) => {
  const [first] = alerts;
  if (first === undefined || !("Notification" in window) || Notification.permission !== "granted") return;
  const title = alerts.length === 1 ? `${first.symbol} ${first.rule_type}` : `${alerts.length} alerts`;
  const body =
    alerts.length === 1
      ? `${first.severity}, ${price(first.price)}, 5m ${percent(first.metadata["price_change_5m"])}`
      : [...new Set(alerts.map((alert) => alert.symbol))].slice(0, 8).join(", ");
  const made = new Notification(title, { body, tag: "screener" });
  made.onclick = () => {
    window.focus();
    location.hash = alerts.length === 1 ? addressOf("chart", [first.symbol], { at: first.timestamp }) : addressOf("alerts");
    made.close();
  };
});

export function tellOfNewAlerts(): void {
  onNewAlerts((alerts) => {
    if (isQuiet()) return;
    const heard = alerts.filter((alert) => !isMuted(alert));
    sound(heard.filter((alert) => soundsFor.peek().includes(alert.severity)));
    if (notifies.peek()) notification(heard.filter((alert) => notifiesFor.peek().includes(alert.severity)));
  });
  // the title counts the alerts that fired while the page was hidden
  let unseen = 0;
  const prefix = (): void => {
    document.title = document.title.replace(/^\(\d+\) /, "");
    if (unseen > 0) document.title = `(${unseen}) ${document.title}`;
  };
  onNewAlerts((alerts) => {
    if (!document.hidden) return;
    unseen += alerts.filter((alert) => !isMuted(alert)).length;
    prefix();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    unseen = 0;
    prefix();
  });
  effect(() => {
    if (notifies.value && "Notification" in window && Notification.permission === "denied") notifies.value = false;
  });
}
