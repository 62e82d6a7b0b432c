/** Every view, in the order of the navigation. A new view needs only an entry here and a folder. */
import type { ComponentType } from "preact";

export interface ViewProps {
  /** The parts of the address after the view, for example a symbol. */
  args: readonly string[];
}

export interface View {
  name: string;
  title: string;
  /** The key that opens it from anywhere. */
  key: string;
  /** An SVG path in a box of 24 by 24. */
  icon: string;
  /** Loads the view's code, when it is first opened. */
  load(): Promise<{ default: ComponentType<ViewProps> }>;
}

export const VIEWS: readonly View[] = [
  {
    name: "symbols",
    title: "Symbols",
    key: "1",
    icon: "M4 5h16v3H4zm0 5.5h16v3H4zM4 16h16v3H4z",
    load: () => import("./symbols/view"),
  },
  {
    name: "chart",
    title: "Chart",
    key: "2",
    icon: "M6 3h2v3h2v9H8v4H6v-4H4V6h2zm10 4h2v3h2v6h-2v4h-2v-4h-2v-6h2z",
    load: () => import("./chart/view"),
  },
  {
    name: "alerts",
    title: "Alerts",
    key: "3",
    icon: "M12 3a6 6 0 0 0-6 6v4l-2 3v1h16v-1l-2-3V9a6 6 0 0 0-6-6zm-2 15a2 2 0 0 0 4 0z",
    load: () => import("./alerts/view"),
  },
  {
    name: "screens",
    title: "Screens",
    key: "4",
    icon: "M3 5h18l-7 8v6l-4-2v-4z",
    load: () => import("./screens/view"),
  },
  {
    name: "rules",
    title: "Rules",
    key: "5",
    icon: "M5 4h14v3H5zm0 5h9v3H5zm0 5h14v3H5zm11-5h3v3h-3z",
    load: () => import("./rules/view"),
  },
  {
    name: "account",
    title: "Account",
    key: "6",
    icon: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM4 20a8 6 0 0 1 16 0z",
    load: () => import("./account/view"),
  },
];

export const FIRST_VIEW = "symbols";
