/** The versions of a rule's text, each with its difference from the version before. */
import { useEffect, useState } from "preact/hooks";
import { get, wordsOf } from "../client/rest";
import { longTime } from "../parts/format";
import { difference } from "./difference";

interface Version {
  version: number;
  expression: string;
  mode: "live" | "close" | null;
  hold_s: number;
  stored_at: string;
}

export function Versions({ rule, version, onTake }: { rule: string; version: number; onTake(expression: string): void }) {
  const [versions, setVersions] = useState<readonly Version[] | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    get<{ versions: Version[] }>(`api/rules/${encodeURIComponent(rule)}/versions`, {}, abort.signal).then(
      (found) => setVersions(found.versions),
      (error: unknown) => abort.signal.aborted || setFault(wordsOf(error)),
    );
    return () => abort.abort();
  }, [rule, version]);

  if (fault !== null) return <p class="bad">{fault}</p>;
  if (versions === null) return <p class="faint">Loading…</p>;
  return (
    <ol class="versions">
      {versions.map((one, i) => (
        <VersionItem key={one.version} version={one} before={versions[i + 1]} isNow={one.version === version} onTake={onTake} />
      ))}
    </ol>
  );
}

interface ItemProps {
  version: Version;
  before: Version | undefined;
  isNow: boolean;
  onTake(expression: string): void;
}

function VersionItem({ version, before, isNow, onTake }: ItemProps) {
  const { expression, mode, hold_s } = version;
  return (
    <li>
      <p>
        <strong>Version {version.version}</strong> <span class="faint">{longTime(version.stored_at)}</span>{" "}
        {isNow ? (
          <span class="faint">in force</span>
        ) : (
          <button type="button" class="quiet" onClick={() => onTake(expression)}>
            Take this text
          </button>
        )}
      </p>
      <p class="code diff">
        {difference(before?.expression ?? expression, expression).map(({ kind, text }, i) =>
          kind === "same" ? <span key={i}>{text}</span> : kind === "added" ? <ins key={i}>{text}</ins> : <del key={i}>{text}</del>,
        )}
      </p>
      {before !== undefined && before.mode !== mode && (
        <p class="faint">
          evaluated: {before.mode ?? "as set"} → {mode ?? "as set"}
        </p>
      )}
      {before !== undefined && before.hold_s !== hold_s && (
        <p class="faint">
          true for: {before.hold_s} s → {hold_s} s
        </p>
      )}
    </li>
  );
}
