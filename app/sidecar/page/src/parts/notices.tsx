/** Short messages that stay until they are dismissed, or replaced by newer ones. */
import { signal } from "@preact/signals";

export interface Notice {
  id: string;
  text: string;
  action?: { label: string; run(): void };
}

const MOST = 3;
const shown = signal<readonly Notice[]>([]);

/** Show a notice. It replaces a notice with the same id. */
export function notify(notice: Notice): void {
  shown.value = [...shown.peek().filter((one) => one.id !== notice.id), notice].slice(-MOST);
}

export function dismiss(id: string): void {
  if (shown.peek().some((one) => one.id === id)) shown.value = shown.peek().filter((one) => one.id !== id);
}

export function Notices() {
  return (
    <div class="notices" role="region" aria-label="Messages" aria-live="polite">
      {shown.value.map(({ id, text, action }) => (
        <p key={id} class="notice">
          <span>{text}</span>
          {action && (
            <button
              onClick={() => {
                dismiss(id);
                action.run();
              }}
            >
              {action.label}
            </button>
          )}
          <button class="quiet" aria-label={`Dismiss: ${text}`} onClick={() => dismiss(id)}>
            ✕
          </button>
        </p>
      ))}
    </div>
  );
}
