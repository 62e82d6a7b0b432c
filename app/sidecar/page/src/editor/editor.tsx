/** A field for an expression, with completion, colours, and underlined faults.
 *
 * The editor is in a shadow root: there its styles are sheets made by script, which the page's content security policy
 * allows, instead of style elements, which it forbids. Tab leaves the editor, as it leaves any field.
 */
import { autocompletion, closeCompletion, completionKeymap, completionStatus } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { linter, lintKeymap, type Diagnostic } from "@codemirror/lint";
import { Annotation, Compartment, EditorState } from "@codemirror/state";
import { EditorView, drawSelection, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "preact/hooks";
import { completionSource } from "./completion";
import { check, learnLanguage, type Kind } from "./language";

const CHECK_AFTER_MS = 400;
/** Marks a change of the text that came from outside. */
const given = Annotation.define<boolean>();

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--accent)", fontWeight: "600" },
  { tag: tags.function(tags.variableName), color: "var(--up)" },
  { tag: tags.number, color: "var(--warn)" },
  { tag: tags.operator, color: "var(--faint)" },
]);

const words = StreamLanguage.define<null>({
  startState: () => null,
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^(and|or|not)\b/i)) return "keyword";
    if (stream.match(/^[A-Za-z_]\w*(?=\s*\()/)) return "variableName.function";
    if (stream.match(/^[A-Za-z_]\w*/)) return "variableName";
    if (stream.match(/^[\d.][\w.]*/)) return "number";
    stream.next();
    return "operator";
  },
});

const look = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--card)", border: "1px solid var(--control)", borderRadius: "6px", fontSize: "14px" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-scroller": { fontFamily: 'ui-monospace, "SF Mono", Menlo, monospace', lineHeight: "1.5" },
  ".cm-content": { caretColor: "var(--text)", padding: "6px 4px" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "color-mix(in srgb, var(--accent) 30%, transparent)",
  },
  ".cm-placeholder": { color: "var(--faint)" },
  ".cm-tooltip": { background: "var(--card)", color: "var(--text)", border: "1px solid var(--control)", borderRadius: "6px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { background: "var(--accent)", color: "var(--on-accent)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected] .cm-completionDetail": { color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "var(--faint)", fontStyle: "normal", marginLeft: "1em" },
  ".cm-completionInfo": { maxWidth: "20rem", padding: "6px 9px" },
  ".cm-diagnostic": { whiteSpace: "pre-wrap", maxWidth: "30rem" },
  ".cm-diagnosticAction": { background: "var(--accent)", color: "var(--on-accent)", font: "inherit", borderRadius: "4px", padding: "2px 8px" },
  ".cm-matchingBracket": { background: "var(--raised)", outline: "1px solid var(--control)" },
});

export interface EditorProps {
  label: string;
  text: string;
  kind: Kind;
  hint?: string;
  readOnly?: boolean;
  onText(text: string): void;
  /** Called on Ctrl-Enter, and on Enter where `oneLine`. */
  onSubmit?(): void;
  oneLine?: boolean;
}

export function Editor(props: EditorProps) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const newest = useRef(props);
  newest.current = props;
  const changing = useRef(new Compartment()).current;
  /** Texts passed to `onText` that have not yet come back as the `text` property. */
  const told = useRef<string[]>([]).current;

  useEffect(() => {
    void learnLanguage();
    const host = place.current;
    if (host === null) return;
    const root = host.shadowRoot ?? host.attachShadow({ mode: "open", delegatesFocus: true });
    const made = new EditorView({
      root,
      parent: root,
      state: EditorState.create({ doc: props.text, extensions: extensions(newest, changing, told) }),
    });
    view.current = made;
    return () => {
      made.destroy();
      view.current = null;
    };
  }, []);

  useEffect(() => {
    const shown = view.current;
    // the editor's own text may come back after the user has typed more: it must not undo that
    const returned = told.indexOf(props.text);
    if (returned >= 0) told.splice(0, returned + 1);
    if (shown === null || (returned >= 0 && shown.hasFocus)) return;
    told.length = 0;
    const now = shown.state.doc.toString();
    if (now !== props.text) shown.dispatch({ changes: { from: 0, to: now.length, insert: props.text }, annotations: given.of(true) });
  }, [props.text]);
  useEffect(() => {
    view.current?.dispatch({ effects: changing.reconfigure(ofProps(props)) });
  }, [props.readOnly, props.label]);

  return <div ref={place} class="editor" />;
}

type Newest = { readonly current: EditorProps };

function ofProps({ readOnly = false, label, hint = "" }: EditorProps) {
  const content: Record<string, string> = { "aria-label": label, spellcheck: "false", autocapitalize: "off", autocorrect: "off" };
  if (readOnly) content["aria-readonly"] = "true";
  return [EditorState.readOnly.of(readOnly), EditorView.contentAttributes.of(content), placeholder(hint)];
}

function extensions(newest: Newest, changing: Compartment, told: string[]) {
  function submit(shown: EditorView): boolean {
    if (completionStatus(shown.state) === "active") return false;
    newest.current.onSubmit?.();
    return newest.current.onSubmit !== undefined;
  }
  return [
    changing.of(ofProps(newest.current)),
    history(),
    drawSelection(),
    bracketMatching(),
    EditorView.lineWrapping,
    words,
    syntaxHighlighting(colours),
    look,
    autocompletion({ override: [completionSource(() => newest.current.kind)], icons: false, maxRenderedOptions: 60 }),
    linter((shown) => faultsOf(shown, newest.current.kind), { delay: CHECK_AFTER_MS }),
    keymap.of([
      { key: "Mod-Enter", run: submit },
      { key: "Enter", run: (shown) => newest.current.oneLine === true && submit(shown) },
      { key: "Escape", run: closeCompletion },
      ...completionKeymap,
      ...defaultKeymap,
      ...historyKeymap,
      ...lintKeymap,
    ]),
    EditorView.updateListener.of((update) => {
      if (!update.docChanged || update.transactions.some((one) => one.annotation(given) === true)) return;
      const text = update.state.doc.toString();
      told.push(text);
      newest.current.onText(text);
    }),
  ];
}

async function faultsOf(shown: EditorView, kind: Kind): Promise<Diagnostic[]> {
  const text = shown.state.doc.toString();
  if (text.trim() === "") return [];
  const { faults } = await check(text, kind).catch(() => ({ faults: [] }));
  return faults.map((fault) => {
    const from = Math.min(fault.position, text.length);
    // a fault at the end of the text has nothing to underline but the last character
    const start = fault.length === 0 ? Math.max(0, text.trimEnd().length - 1) : from;
    return {
      from: start,
      to: fault.length === 0 ? text.length : Math.min(text.length, from + fault.length),
      severity: "error",
      message: fault.message,
      actions: fault.suggestions.map((name) => ({
        name,
        apply: (view: EditorView, begin: number, end: number) => view.dispatch({ changes: { from: begin, to: end, insert: name } }),
      })),
    } satisfies Diagnostic;
  });
}
