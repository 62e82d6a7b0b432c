/** A modal dialog, as the browser's own element: it holds the focus, and Escape closes it. */
import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface DialogProps {
  open: Signal<boolean>;
  title: ComponentChildren;
  wide?: boolean;
  children: ComponentChildren;
}

/** The content is rendered only while the dialog is open. */
export function Dialog({ open, title, wide = false, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  const isOpen = open.value;
  // open it before the browser paints, so that it gets a key that is pressed at once
  useLayoutEffect(() => {
    if (isOpen && element.current?.open === false) element.current.showModal();
    if (!isOpen && element.current?.open === true) element.current.close();
  }, [isOpen]);
  return (
    <dialog
      ref={element}
      class={wide ? "wide" : ""}
      aria-labelledby={titleId}
      onClose={() => (open.value = false)}
      onClick={(event) => event.target === element.current && (open.value = false)}
    >
      {isOpen && (
        <div class="dialog-frame">
          <div class="bar">
            <h2 id={titleId}>{title}</h2>
            <span class="room" />
            <button class="quiet" aria-label="Close" onClick={() => (open.value = false)}>
              ✕
            </button>
          </div>
          <div class="dialog-content">{children}</div>
        </div>
      )}
    </dialog>
  );
}
