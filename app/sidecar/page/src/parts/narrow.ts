/** Whether the page is as narrow as a phone. */
import { signal, type ReadonlySignal } from "@preact/signals";

const query = matchMedia("(max-width: 48rem)");
const found = signal(query.matches);
query.addEventListener("change", (event) => (found.value = event.matches));

export const isNarrow: ReadonlySignal<boolean> = found;
