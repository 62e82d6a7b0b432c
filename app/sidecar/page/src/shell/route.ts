/** The route, as the address holds it after #: the view, its arguments and its choices. `#/chart/BTCUSDT?interval=5m`. */
import { signal } from "@preact/signals";

export interface Route {
  view: string;
  /** The parts after the view. */
  args: readonly string[];
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", ...args] = path.split("/").map(decoded);
  return { view, args, query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal(read());
window.addEventListener("hashchange", () => (route.value = read()));

export function addressOf(view: string, args: readonly string[] = [], query: Record<string, string> = {}): string {
  const path = [view, ...args].map(encodeURIComponent).join("/");
  const text = new URLSearchParams(query).toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

export function go(view: string, args: readonly string[] = [], query: Record<string, string> = {}): void {
  location.hash = addressOf(view, args, query);
}

/** Store choices of the present view in its address, without a step in the browser's history. Null and "" remove one. */
export function choose(changes: Record<string, string | null>): void {
  const { view, args, query } = route.value;
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  history.replaceState(null, "", addressOf(view, args, Object.fromEntries(next)));
  route.value = { view, args, query: next };
}
