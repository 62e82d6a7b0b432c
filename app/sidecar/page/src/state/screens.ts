/** Screens: expressions that the user saved by name. */
import { personal } from "./personal";

const MOST = 100;

export interface Screen {
  name: string;
  where: string;
  sort: string;
}

function isScreens(value: unknown): value is Screen[] {
  const isText = (text: unknown): boolean => typeof text === "string";
  return Array.isArray(value) && value.every((one: Partial<Screen> | null) => isText(one?.name) && isText(one?.where) && isText(one?.sort));
}

export const screens = personal<Screen[]>("screens", [], isScreens, (theirs, mine) =>
  [...theirs, ...mine.filter(({ name }) => !theirs.some((one) => one.name === name))].slice(-MOST),
);

/** Save a screen. It replaces a screen of the same name. */
export function saveScreen(screen: Screen): void {
  screens.value = [...screens.value.filter(({ name }) => name !== screen.name), screen].slice(-MOST);
}

export function forgetScreen(screen: Screen): void {
  screens.value = screens.value.filter((one) => one !== screen);
}
