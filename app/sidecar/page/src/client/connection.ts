/** A WebSocket connection to the sidecar. It reconnects by itself and renews its subscriptions. */
import { signal, type ReadonlySignal } from "@preact/signals";
import { session, signOut } from "./session";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** The interval of pings. They find a dead connection: a live one is never silent this long, as market values come every second. */
const PING_EVERY_MS = 15_000;
const PONG_WITHIN_MS = 10_000;

export type ConnectionState =
  | { kind: "connecting" }
  | { kind: "open" }
  /** again: when the next attempt is due, in ms of this machine's clock. */
  | { kind: "waiting"; again: number; why: "lost" | "restarting" };

export interface Heard {
  type: string;
  channel?: string;
  seq?: number;
  more?: boolean;
  data?: unknown;
  id?: string | number;
}

export interface Channel {
  name: "alerts" | "metrics" | "candles";
  /** The fields of the `subscribe` message; null while the page needs nothing of this channel. */
  wanted(): Record<string, unknown> | null;
  heard(message: Heard): void;
}

export class Connection {
  readonly #state = signal<ConnectionState>({ kind: "connecting" });
  readonly #channels = new Map<string, Channel>();
  readonly #subscribed = new Set<string>();
  #socket: WebSocket | null = null;
  #waitMs = FIRST_WAIT_MS;
  #timer: number | undefined;
  #pings: number | undefined;
  #pongDue: number | undefined;
  #token: string | null = null;
  #stopped = false;

  get state(): ReadonlySignal<ConnectionState> {
    return this.#state;
  }

  /** Add a channel and subscribe to it. A channel of the same name is replaced. */
  add(channel: Channel): void {
    this.#channels.set(channel.name, channel);
    this.subscribe(channel.name);
  }

  /** Subscribe to a channel with its present fields, or unsubscribe if nothing is wanted. */
  subscribe(name: string): void {
    const channel = this.#channels.get(name);
    if (channel === undefined || this.#socket?.readyState !== WebSocket.OPEN) return;
    const fields = channel.wanted();
    if (fields !== null) {
      this.#subscribed.add(name);
      this.#say({ type: "subscribe", channel: name, ...fields });
    } else if (this.#subscribed.delete(name)) {
      this.#say({ type: "unsubscribe", channel: name });
    }
  }

  start(): void {
    if (this.#stopped || this.#socket !== null) return;
    clearTimeout(this.#timer);
    this.#state.value = { kind: "connecting" };
    const address = new URL("ws", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = (event: MessageEvent<string>) => this.#heard(JSON.parse(event.data) as Heard);
    socket.onclose = (event) => this.#closed(event);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  /** Reconnect, as another user or without one. */
  again(): void {
    this.#waitMs = 0;
    if (this.#socket === null) this.start();
    else this.#socket.close();
  }

  #say(message: Record<string, unknown>): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #opened(): void {
    this.#subscribed.clear();
    this.#token = session.value?.token ?? null;
    if (this.#token !== null) this.#say({ type: "auth", token: this.#token });
    this.#state.value = { kind: "open" };
    for (const name of this.#channels.keys()) this.subscribe(name);
    this.#pings = window.setInterval(() => this.#ping(), PING_EVERY_MS);
  }

  #ping(): void {
    this.#say({ type: "ping" });
    clearTimeout(this.#pongDue);
    this.#pongDue = window.setTimeout(() => this.#giveUp(), PONG_WITHIN_MS);
  }

  /** Abandon the socket. Without a network it takes minutes to close, so nothing waits for that. */
  #giveUp(): void {
    const socket = this.#socket;
    if (socket === null) return;
    socket.onclose = socket.onmessage = null;
    socket.close();
    this.#closed(new CloseEvent("close"));
  }

  #heard(message: Heard): void {
    this.#waitMs = FIRST_WAIT_MS;
    clearTimeout(this.#pongDue);
    if (message.type === "error") this.#refused(message);
    if (message.channel !== undefined) this.#channels.get(message.channel)?.heard(message);
  }

  #refused(message: Heard): void {
    const { error, message: text } = message.data as { error: string; message: string };
    const channel = message.channel;
    if (error === "not_ready" && channel !== undefined) window.setTimeout(() => this.subscribe(channel), 2000);
    else if ((error === "token_invalid" || error === "token_expired") && this.#token === session.value?.token)
      signOut(`The screener no longer accepts your token (${text}). Sign in again.`);
  }

  #closed(event: CloseEvent): void {
    this.#socket = null;
    clearInterval(this.#pings);
    clearTimeout(this.#pongDue);
    if (this.#stopped) return;
    const told = /retry_after_ms=(\d+)/.exec(event.reason);
    const waitMs = told ? Number(told[1]) + FIRST_WAIT_MS : this.#waitMs * (0.5 + Math.random() / 2);
    this.#waitMs = Math.min(Math.max(this.#waitMs, FIRST_WAIT_MS) * 2, LONGEST_WAIT_MS);
    this.#state.value = { kind: "waiting", again: Date.now() + waitMs, why: event.code === 1001 ? "restarting" : "lost" };
    this.#timer = window.setTimeout(() => this.start(), waitMs);
  }
}
