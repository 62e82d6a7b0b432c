/** The page around the views: header, navigation, the view that the address names, and the page of keys. */
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { wordsOf } from "../client/rest";
import { Notices } from "../parts/notices";
import { clock, theme } from "../state/preferences";
import { FIRST_VIEW, VIEWS, type View, type ViewProps } from "../views";
import { Header } from "./header";
import { KeyPage } from "./key_page";
import { useKeys } from "./keys";
import { addressOf, go, route } from "./route";
import { Why } from "./why";

export const keyPageOpen = signal(false);

const loaded = new Map<string, ComponentType<ViewProps>>();

function chosenView(): View | undefined {
  const name = route.value.view || FIRST_VIEW;
  return VIEWS.find((one) => one.name === name);
}

function CurrentView() {
  const view = chosenView();
  const [fault, setFault] = useState<string | null>(null);
  const [, setArrived] = useState("");
  const name = view?.name;
  useEffect(() => {
    setFault(null);
    if (view === undefined || loaded.has(view.name)) return;
    view.load().then(
      (module) => {
        loaded.set(view.name, module.default);
        setArrived(view.name);
      },
      (error: unknown) => setFault(wordsOf(error)),
    );
  }, [name]);
  useEffect(() => {
    document.title = view === undefined ? "Screener" : `${view.title} · Screener`;
  }, [name]);

  if (view === undefined)
    return (
      <p class="empty">
        There is no view of this name. <a href={addressOf(FIRST_VIEW)}>Show all symbols</a>
      </p>
    );
  const Chosen = loaded.get(view.name);
  if (fault !== null)
    return (
      <p class="empty" role="alert">
        This part of the page could not be loaded: {fault} <a href={location.href} onClick={() => location.reload()}>Reload</a>
      </p>
    );
  return Chosen === undefined ? <p class="empty">Loading…</p> : <Chosen args={route.value.args} />;
}

function Navigation() {
  const current = chosenView()?.name;
  return (
    <nav class="views" aria-label="Views">
      {VIEWS.map(({ name, title, icon, key }) => (
        <a key={name} href={addressOf(name)} aria-current={name === current ? "page" : undefined} title={`${title} (${key})`}>
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d={icon} />
          </svg>
          <span>{title}</span>
        </a>
      ))}
    </nav>
  );
}

const NEXT_THEME = { system: "light", light: "dark", dark: "system" } as const;

export function App() {
  useKeys("Everywhere", [
    ...VIEWS.map(({ name, title, key }) => ({ key, does: `Show ${title}`, run: () => go(name) })),
    { key: "t", does: "Change the theme: of the system, light, dark", run: () => (theme.value = NEXT_THEME[theme.value]) },
    { key: "z", does: "Times local or UTC", run: () => (clock.value = clock.value === "utc" ? "local" : "utc") },
    { key: "?", does: "Show keys and choices", run: () => (keyPageOpen.value = true) },
  ]);
  return (
    <>
      <a class="skip" href="#main" onClick={toMain}>
        To the content
      </a>
      <Header onKeys={() => (keyPageOpen.value = true)} />
      <Navigation />
      <Notices />
      <main id="main" tabIndex={-1}>
        <CurrentView />
      </main>
      <Why />
      <KeyPage open={keyPageOpen} />
    </>
  );
}

/** Move the focus by script: the fragment of the address names the view, so it cannot name a place in the page. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
