/** The choice of the watchlist that is shown, with a way to add lists. */
import { useSignal } from "@preact/signals";
import { Dialog } from "../parts/dialog";
import { choose } from "../shell/route";
import { addList, removeList, watchlists } from "../state/watchlists";

const NEW = "\u0000new";

export function ListChoice({ list }: { list: string }) {
  const making = useSignal(false);
  function submit(event: SubmitEvent): void {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name") ?? "").trim();
    if (!name) return;
    addList(name);
    making.value = false;
    choose({ list: name });
  }
  return (
    <>
      <select
        aria-label="Watchlist"
        value={list}
        onChange={(event) => {
          const chosen = event.currentTarget.value;
          if (chosen === NEW) {
            event.currentTarget.value = list;
            making.value = true;
          } else choose({ list: chosen });
        }}
      >
        <option value="">All symbols</option>
        {watchlists.value.map(({ name, symbols }) => (
          <option key={name} value={name}>
            {name} ({symbols.length})
          </option>
        ))}
        <option value={NEW}>New list…</option>
      </select>
      {list && (
        <button
          class="quiet"
          onClick={() => {
            removeList(list);
            choose({ list: null });
          }}
        >
          Remove list
        </button>
      )}
      <Dialog open={making} title="New list">
        <form class="stack" onSubmit={submit}>
          <label>
            Name
            <input name="name" maxLength={60} required autofocus />
          </label>
          <button class="main">Make the list</button>
        </form>
      </Dialog>
    </>
  );
}
