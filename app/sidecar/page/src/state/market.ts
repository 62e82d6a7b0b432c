/** The newest values of all symbols, with only the fields that are subscribed to. */
import { batch, effect, signal } from "@preact/signals";
import type { Connection, Heard } from "../client/connection";
import type { Metrics, Timeframe } from "../client/types";

export interface Choice {
  timeframes: readonly Timeframe[];
  fields: readonly string[];
  interval_ms: number;
}

const HIDDEN_FOR_MS = 30_000;
const COLLECTED_FOR_MS = 80;
/** How long the choice must be unchanged before it is sent: users click through columns, and the sidecar limits subscriptions. */
const SETTLED_AFTER_MS = 250;

export class Market {
  /** By symbol. It is always the same map, so `changes` tells when to read it again. */
  readonly values = new Map<string, Metrics>();
  /** Grows a moment after messages came. */
  readonly changes = signal(0);
  /** Whether the first whole snapshot has arrived. */
  readonly complete = signal(false);
  readonly #choice = signal<Choice | null>(null);
  #snapshot: Map<string, Metrics> | null = null;
  #toTell: number | undefined;

  constructor(connection: Connection) {
    connection.add({
      name: "metrics",
      wanted: () => (this.#choice.peek() === null ? null : { ...this.#choice.peek() }),
      heard: (message) => this.#heard(message),
    });
    let settling: number | undefined;
    effect(() => {
      void this.#choice.value;
      clearTimeout(settling);
      settling = window.setTimeout(() => connection.subscribe("metrics"), SETTLED_AFTER_MS);
    });
  }

  /** Subscribe to a choice of values; null ends the subscription. */
  choose(choice: Choice | null): void {
    if (JSON.stringify(choice) !== JSON.stringify(this.#choice.peek())) this.#choice.value = choice;
  }

  #heard(message: Heard): void {
    if (message.type === "snapshot") this.#takeSnapshot(message.data as Metrics[], message.more === true);
    else if (message.type === "update") for (const one of message.data as Metrics[]) (this.#snapshot ?? this.values).set(one.symbol, one);
    else return;
    if (this.#snapshot === null) this.#tell();
  }

  /** Tell the changes in a moment: an update of hundreds of symbols comes in several messages, and is drawn once. */
  #tell(): void {
    this.#toTell ??= window.setTimeout(() => {
      this.#toTell = undefined;
      this.changes.value += 1;
    }, COLLECTED_FOR_MS);
  }

  /** Replace all values once the snapshot is complete: a symbol that it does not contain is delisted. */
  #takeSnapshot(values: readonly Metrics[], more: boolean): void {
    this.#snapshot ??= new Map();
    for (const one of values) this.#snapshot.set(one.symbol, one);
    if (more) return;
    const whole = this.#snapshot;
    this.#snapshot = null;
    batch(() => {
      this.values.clear();
      for (const [symbol, one] of whole) this.values.set(symbol, one);
      this.complete.value = true;
    });
  }

  /** Unsubscribe while the page has been hidden for a while. Returns a function that ends this. */
  rest(): () => void {
    let resting: number | undefined;
    let before: Choice | null = null;
    const seen = (): void => {
      clearTimeout(resting);
      if (document.hidden) {
        resting = window.setTimeout(() => {
          before = this.#choice.peek();
          this.choose(null);
        }, HIDDEN_FOR_MS);
      } else if (before !== null) {
        this.choose(before);
        before = null;
      }
    };
    document.addEventListener("visibilitychange", seen);
    return () => document.removeEventListener("visibilitychange", seen);
  }
}
