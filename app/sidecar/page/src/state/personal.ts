/** The user's choices. This browser stores them; for a signed-in user the screener does, so that every browser has them. */
import { batch, effect, signal, untracked, type Signal } from "@preact/signals";
import { get, Refusal, retryAfterMs, send, wordsOf } from "../client/rest";
import { session } from "../client/session";
import { dismiss, notify } from "../parts/notices";
import { onOtherTab, stored, storeInBrowser } from "./preferences";

type Values = Readonly<Record<string, unknown>>;

interface Answer {
  version: number;
  document: Values;
}

interface Known extends Answer {
  user: string;
}

interface Field {
  name: string;
  chosen: Signal<unknown>;
  initial: unknown;
  valid(value: unknown): value is unknown;
  join(theirs: unknown, mine: unknown): unknown;
}

const SETTLED_AFTER_MS = 300;
const READ_EVERY_MS = 60_000;
/** The key in sessionStorage of the document and the choices: a reload shows them at once and stores the changes that are not
 * stored yet. It ends with the tab, as the token does. */
const CACHE = "screener.personal";
/** The key in localStorage of the choices of this browser that were last joined into a document, with its user. */
const JOINED = "joined";

const fields: Field[] = [];
/** The document as the screener stores it; null while the page uses the choices stored by this browser. */
let known: Known | null = null;
let timer: number | undefined;
let storing = false;
/** The number of changes stored so far. */
let stores = 0;

/** Return JSON with sorted names, for comparisons: the screener's database orders names in its own way. */
function text(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) =>
    typeof one === "object" && one !== null && !Array.isArray(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one,
  );
}
const same = (one: unknown, other: unknown): boolean => text(one) === text(other);

/** Create a signal for the field `name` of the document. `join` merges two values that were changed independently. */
export function personal<Choice>(name: string, initial: Choice, valid: (value: unknown) => value is Choice, join: (theirs: Choice, mine: Choice) => Choice): Signal<Choice> {
  const chosen = signal(stored(name, initial, valid));
  fields.push({ name, chosen, initial, valid, join } as unknown as Field);
  effect(() => {
    const value = chosen.value;
    if (known === null) storeInBrowser(name, value);
    else {
      writeCache();
      storeSoon();
    }
  });
  onOtherTab(name, () => {
    if (known === null) chosen.value = stored(name, initial, valid);
  });
  return chosen;
}

/** Load and store the choices as users sign in and out. Call it once, after all fields were created. */
export function followPerson(): void {
  effect(() => {
    const user = session.value?.user ?? null;
    untracked(() => (user === null ? leave() : enter(user)));
  });
  setInterval(() => document.hidden || void read(), READ_EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void read();
    else if (timer !== undefined) void store();
  });
}

function leave(): void {
  clearTimeout(timer);
  timer = undefined;
  sessionStorage.removeItem(CACHE);
  if (known === null) return;
  known = null;
  show((field) => stored(field.name, field.initial, field.valid));
}

function enter(user: string): void {
  if (known !== null && known.user !== user) leave();
  const cached = readCache();
  if (known === null && cached?.user === user) {
    known = { user, version: cached.version, document: cached.document };
    show((field) => (field.valid(cached.chosen[field.name]) ? cached.chosen[field.name] : field.initial));
    storeSoon();
  }
  void read();
}

function chosenNow(): Values {
  return Object.fromEntries(fields.map(({ name, chosen }) => [name, chosen.peek()]));
}

function writeCache(): void {
  if (known !== null) sessionStorage.setItem(CACHE, JSON.stringify({ ...known, chosen: chosenNow() }));
}

function readCache(): (Known & { chosen: Values }) | null {
  try {
    return JSON.parse(sessionStorage.getItem(CACHE) ?? "null") as (Known & { chosen: Values }) | null;
  } catch {
    return null;
  }
}

function show(valueOf: (field: Field) => unknown): void {
  batch(() => {
    for (const field of fields) {
      const value = valueOf(field);
      if (!same(value, field.chosen.peek())) field.chosen.value = value;
    }
  });
}

function remember(next: Known): void {
  known = next;
  writeCache();
}

async function read(): Promise<void> {
  const user = session.peek()?.user;
  if (user === undefined) return;
  const before = stores;
  try {
    const answer = await get<Answer>("api/me");
    // an answer from before the last stored change would undo it
    if (session.peek()?.user === user && before === stores && !storing) take(user, answer);
  } catch (error) {
    const waitMs = retryAfterMs(error);
    if (waitMs !== null && known === null) window.setTimeout(() => void read(), waitMs);
    else if (waitMs === null && session.peek() !== null) notify({ id: "personal", text: `Your lists could not be read: ${wordsOf(error)}` });
  }
}

/** Merge the screener's document: a choice that changed in one place is taken from there, one that changed in both is joined. */
function take(user: string, { version, document: theirs }: Answer): void {
  const mine = chosenNow();
  let before: Values;
  if (known?.user === user) {
    if (version === known.version) return;
    before = known.document;
  } else {
    before = joinedBefore(user);
    storeInBrowser(JOINED, { user, values: mine });
  }
  remember({ user, version, document: theirs });
  show(({ name, initial, valid, join }) => {
    const [there, here] = [theirs[name], mine[name]];
    const common = valid(before[name]) ? before[name] : initial;
    if (!valid(there) || same(there, common)) return here;
    return same(here, common) ? there : join(there, here);
  });
  storeSoon();
}

function joinedBefore(user: string): Values {
  const isJoined = (value: unknown): value is { user: string; values: Values } | null => value === null || (typeof value === "object" && "values" in value);
  const joined = stored(JOINED, null, isJoined);
  return joined?.user === user ? joined.values : {};
}

function storeSoon(afterMs: number = SETTLED_AFTER_MS): void {
  clearTimeout(timer);
  timer = window.setTimeout(() => void store(), afterMs);
}

async function store(): Promise<void> {
  clearTimeout(timer);
  timer = undefined;
  const of = known;
  if (of === null) return;
  if (storing) return storeSoon();
  const chosen = fields.filter(({ name, chosen: { value }, initial }) => name in of.document || !same(value, initial));
  const next: Values = { ...of.document, ...Object.fromEntries(chosen.map(({ name, chosen: { value } }) => [name, value])) };
  if (same(next, of.document)) return;
  storing = true;
  let outdated = false;
  try {
    const answer = await send<Answer>("PUT", "api/me", { version: of.version, document: next });
    stores += 1;
    if (answer !== null && known === of) remember({ user: of.user, version: answer.version, document: next });
    dismiss("personal");
  } catch (error) {
    outdated = error instanceof Refusal && error.status === 409;
    if (outdated) dismiss("personal");
    else if (session.peek() !== null) notify({ id: "personal", text: `Your lists are not stored: ${wordsOf(error)}` });
    const waitMs = retryAfterMs(error);
    if (waitMs !== null) storeSoon(waitMs);
  } finally {
    storing = false;
  }
  if (outdated) await read();
}
