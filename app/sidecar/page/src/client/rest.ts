/** Requests to the sidecar. An error response is thrown as a Refusal with the sidecar's own message. */
import { session, signOut } from "./session";

export class Refusal extends Error {
  /** status: 0 without an answer. position: where the fault in an expression is. retryAfterS: how long a limit still lasts. */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly position: number | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }
}

/** Browsers refuse `keepalive` for longer bodies. */
const KEPT_ALIVE_MAX = 60_000;

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

function address(path: string, query: Query): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    const text = Array.isArray(value) ? value.join(",") : String(value ?? "");
    if (text !== "") given.set(name, text);
  }
  const text = given.toString();
  return text ? `${path}?${text}` : path;
}

async function request(method: string, path: string, query: Query, body: unknown, abort: AbortSignal | undefined): Promise<Response> {
  const headers = new Headers();
  const token = session.value?.token;
  if (token !== undefined) headers.set("Authorization", `Bearer ${token}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const options: RequestInit = { method, headers };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    // the change arrives even if the user leaves the page at once
    options.keepalive = options.body.length < KEPT_ALIVE_MAX;
  }
  if (abort !== undefined) options.signal = abort;
  try {
    return await fetch(address(path, query), options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal(0, "no_answer", "The screener does not answer.");
  }
}

async function refusal(response: Response): Promise<Refusal> {
  const body = (await response.json().catch(() => ({}))) as { error?: string; message?: string; position?: number };
  const retryAfterS = Number(response.headers.get("Retry-After")) || null;
  if (response.status === 401 && session.value !== null) signOut("The screener no longer accepts your token. Sign in again.");
  const text = response.status === 429 ? `Too many requests: try again in ${retryAfterS ?? 60} s.` : body.message;
  return new Refusal(response.status, body.error ?? "no_answer", text ?? `The screener answered ${response.status}.`, body.position ?? null, retryAfterS);
}

/** Raises Refusal. */
export async function get<Answer>(path: string, query: Query = {}, abort?: AbortSignal): Promise<Answer> {
  const response = await request("GET", path, query, undefined, abort);
  if (!response.ok) throw await refusal(response);
  return (await response.json()) as Answer;
}

/** Raises Refusal. */
export async function getFile(path: string, query: Query): Promise<Blob> {
  const response = await request("GET", path, query, undefined, undefined);
  if (!response.ok) throw await refusal(response);
  return await response.blob().catch(() => {
    throw new Refusal(0, "no_answer", "The file did not arrive whole.");
  });
}

/** Returns null for an answer without a body. Raises Refusal. */
export async function send<Answer>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<Answer | null> {
  const response = await request(method, path, {}, body, undefined);
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return text ? (JSON.parse(text) as Answer) : null;
}

/** Return the answer of any status: the health report has the same form with 200 and with 503. Raises Refusal. */
export async function getWhateverStatus<Answer>(path: string): Promise<Answer> {
  const response = await request("GET", path, {}, undefined, undefined);
  return (await response.json()) as Answer;
}

/** How long to wait before a retry; null where a retry cannot help. */
export function retryAfterMs(error: unknown): number | null {
  if (!(error instanceof Refusal) || ![0, 429, 503].includes(error.status)) return null;
  return 1000 * (error.retryAfterS ?? 3);
}

/** The message to show for something that was thrown. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
