/** The screens view: symbols that satisfy an expression now. Expressions are saved by name and shared by the address. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get, Refusal, wordsOf } from "../client/rest";
import type { Value } from "../client/types";
import { Editor } from "../editor/editor";
import { number, price } from "../parts/format";
import { Grid, type Column } from "../parts/grid";
import { notify } from "../parts/notices";
import { useKeys } from "../shell/keys";
import { addressOf, choose, go, route } from "../shell/route";
import { forgetScreen, saveScreen, screens } from "../state/screens";
import { PRESETS } from "./presets";

interface Found {
  symbol: string;
  timestamp: string;
  price: Value;
  values: Record<string, Value>;
}

interface Answer {
  symbols: Found[];
  matched: number;
  evaluated: number;
}

const EVERY_MS = 5000;
const MOST_ROWS = 200;

function columnsOf(answer: Answer | null): Column<Found>[] {
  const names = Object.keys(answer?.symbols[0]?.values ?? {});
  return [
    { id: "symbol", title: "Symbol", width: 9, cell: (row) => row.symbol },
    { id: "price", title: "Price", width: 7, numeric: true, cell: (row) => price(row.price) },
    ...names.map((name) => ({
      id: name,
      title: name,
      width: Math.max(7, name.length * 0.62),
      numeric: true,
      cell: (row: Found) => (Math.abs(row.values[name] ?? 0) < 1000 ? price(row.values[name]) : number(row.values[name], 0)),
    })),
  ];
}

export default function ScreensView() {
  const where = route.value.query.get("where") ?? "";
  const sort = route.value.query.get("sort") ?? "";
  const answer = useSignal<Answer | null>(null);
  const fault = useSignal<string | null>(null);
  const editor = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (where.trim() === "") {
      answer.value = null;
      fault.value = null;
      return;
    }
    const abort = new AbortController();
    let timer: number | undefined;
    async function ask(): Promise<void> {
      let waitMs = EVERY_MS;
      try {
        if (!document.hidden) {
          const query = { where, sort: sort || null, limit: MOST_ROWS };
          answer.value = await get<Answer>("api/screener", query, abort.signal);
          fault.value = null;
        }
      } catch (error) {
        if (abort.signal.aborted) return;
        fault.value = wordsOf(error);
        if (error instanceof Refusal && error.status === 400) {
          // the rows on the page belong to an earlier expression
          answer.value = null;
          return;
        }
        if (error instanceof Refusal && error.retryAfterS !== null) waitMs = 1000 * error.retryAfterS;
      }
      if (!abort.signal.aborted) timer = window.setTimeout(ask, waitMs);
    }
    timer = window.setTimeout(ask, 400);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [where, sort]);

  function focusEditor(): void {
    editor.current?.querySelector(".editor")?.shadowRoot?.querySelector<HTMLElement>(".cm-content")?.focus();
  }
  useKeys("Screens", [{ key: "/", does: "Write the expression", run: focusEditor }]);

  return (
    <section class="view" aria-labelledby="screens-title">
      <div class="bar">
        <h2 id="screens-title">Screens</h2>
        <SavedScreens where={where} sort={sort} />
      </div>
      <div class="query" ref={editor}>
        <div>
          <p class="field-name">Where</p>
          <Editor label="Where" kind="screen" text={where} hint="price_change_5m > 1 and volume_5m > 100k" onText={(text) => choose({ where: text })} />
        </div>
        <div>
          <p class="field-name">Sorted by</p>
          <Editor label="Sorted by" kind="number" text={sort} oneLine hint="price_change_5m" onText={(text) => choose({ sort: text })} onSubmit={() => undefined} />
        </div>
      </div>
      <p class="faint note" role="status">
        {fault.value !== null ? <span class="bad">{fault.value}</span> : answer.value === null ? "" : `${number(answer.value.matched, 0)} of ${number(answer.value.evaluated, 0)} symbols, live`}
        {fault.value === null && answer.value !== null && answer.value.matched > MOST_ROWS && `; the first ${MOST_ROWS} are shown`}
      </p>
      {where.trim() === "" ? (
        <Presets />
      ) : (
        <Grid
          label="Symbols that match"
          rows={answer.value?.symbols ?? []}
          keyOf={(row) => row.symbol}
          columns={columnsOf(answer.value)}
          onOpen={(row) => go("chart", [row.symbol])}
          empty={answer.value === null ? (fault.value === null ? "Asking…" : "") : "No symbol matches now."}
        />
      )}
    </section>
  );
}

function SavedScreens({ where, sort }: { where: string; sort: string }) {
  const naming = useSignal(false);
  const current = screens.value.find((one) => one.where === where && one.sort === sort);

  function save(event: SubmitEvent): void {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name") ?? "").trim();
    if (!name) return;
    saveScreen({ name, where, sort });
    naming.value = false;
  }

  async function share(): Promise<void> {
    try {
      await navigator.clipboard.writeText(location.href);
      notify({ id: "shared", text: "The link to this screen is in the clipboard." });
    } catch {
      notify({ id: "shared", text: "The address of this page is the link to this screen." });
    }
  }

  return (
    <>
      <label>
        <span class="unseen">Saved screens and examples</span>
        <select
          value={current?.name ?? ""}
          onChange={(event) => {
            const found = screens.value.find((one) => one.name === event.currentTarget.value);
            if (found !== undefined) choose({ where: found.where, sort: found.sort });
          }}
        >
          <option value="">{screens.value.length > 0 ? "Saved screens" : "No saved screens"}</option>
          {screens.value.map(({ name }) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {where !== "" && (
        <>
          {current === undefined && !naming.value && <button onClick={() => (naming.value = true)}>Save…</button>}
          {naming.value && (
            <form class="buttons" onSubmit={save}>
              <input name="name" aria-label="Name of the screen" placeholder="Name" required maxLength={60} autofocus />
              <button class="main">Save</button>
            </form>
          )}
          {current !== undefined && <button onClick={() => forgetScreen(current)}>Forget</button>}
          <button onClick={() => void share()}>Copy link</button>
          <a class="button" href={addressOf("rules", [], { new: "1", from: where })}>
            Make it a rule
          </a>
          <button onClick={() => choose({ where: null, sort: null })}>Examples</button>
        </>
      )}
    </>
  );
}

function Presets() {
  return (
    <div class="presets">
      <p>An expression says which symbols to show. Begin with one of these and change it:</p>
      <ul>
        {PRESETS.map(({ title, where, sort, teaches }) => (
          <li key={title}>
            <a href={addressOf("screens", [], { where, sort })}>
              <strong>{title}</strong>
              <code>{where}</code>
              <span class="faint">{teaches}</span>
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
}
