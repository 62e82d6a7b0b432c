/** The user's watchlists: named lists of symbols. */
import { computed } from "@preact/signals";
import { personal } from "./personal";

export const FIRST_LIST = "Watchlist";
const MOST_LISTS = 50;

export interface Watchlist {
  name: string;
  symbols: string[];
}

function isLists(value: unknown): value is Watchlist[] {
  return (
    Array.isArray(value) &&
    value.every(
      (one: Partial<Watchlist> | null) =>
        typeof one?.name === "string" && Array.isArray(one.symbols) && one.symbols.every((symbol) => typeof symbol === "string"),
    )
  );
}

function joined(theirs: Watchlist[], mine: Watchlist[]): Watchlist[] {
  const names = new Set([...theirs, ...mine].map((list) => list.name));
  const symbolsOf = (lists: Watchlist[], name: string): string[] => lists.find((list) => list.name === name)?.symbols ?? [];
  return [...names].map((name) => ({ name, symbols: [...new Set([...symbolsOf(theirs, name), ...symbolsOf(mine, name)])].sort() })).slice(0, MOST_LISTS);
}

export const watchlists = personal<Watchlist[]>("watchlists", [{ name: FIRST_LIST, symbols: [] }], isLists, joined);

/** The symbols that are on any list. */
export const watched = computed<ReadonlySet<string>>(() => new Set(watchlists.value.flatMap((list) => list.symbols)));

export function listOf(name: string): Watchlist | undefined {
  return watchlists.value.find((list) => list.name === name);
}

/** Put a symbol on a list, or remove it if it is there. Returns whether it is on the list afterwards. */
export function toggleWatched(name: string, symbol: string): boolean {
  addList(name);
  let on = false;
  watchlists.value = watchlists.value.map((list) => {
    if (list.name !== name) return list;
    on = !list.symbols.includes(symbol);
    return { name, symbols: on ? [...list.symbols, symbol].sort() : list.symbols.filter((one) => one !== symbol) };
  });
  return on;
}

export function addList(name: string): void {
  if (name && listOf(name) === undefined && watchlists.value.length < MOST_LISTS) watchlists.value = [...watchlists.value, { name, symbols: [] }];
}

export function removeList(name: string): void {
  watchlists.value = watchlists.value.filter((list) => list.name !== name);
}
