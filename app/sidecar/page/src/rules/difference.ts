/** The difference of two texts, word by word: their longest common subsequence of words is "same". */
export interface Part {
  kind: "same" | "added" | "removed";
  text: string;
}

const WORD = /\w+|\s+|[^\w\s]/g;

export function difference(before: string, after: string): Part[] {
  const [old, now] = [before.match(WORD) ?? [], after.match(WORD) ?? []];
  // common[i][j]: length of the longest common subsequence of old from i on and now from j on
  const common = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  const at = (i: number, j: number): number => common[i]?.[j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--) {
    const row = common[i];
    if (row === undefined) continue;
    for (let j = now.length - 1; j >= 0; j--) row[j] = old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  }
  const parts: Part[] = [];
  const add = (kind: Part["kind"], text: string): void => {
    const last = parts.at(-1);
    if (last?.kind === kind) last.text += text;
    else parts.push({ kind, text });
  };
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    const [gone = "", come = ""] = [old[i], now[j]];
    if (i < old.length && j < now.length && gone === come) {
      add("same", come);
      i += 1;
      j += 1;
    } else if (j >= now.length || (i < old.length && at(i + 1, j) >= at(i, j + 1))) {
      add("removed", gone);
      i += 1;
    } else {
      add("added", come);
      j += 1;
    }
  }
  return parts;
}
