/** The form to sign in with a token; for a signed-in user, who they are and a way to sign out. */
import { useSignal } from "@preact/signals";
import { useId } from "preact/hooks";
import { isAdmin, session, signedOutBecause, signIn, signOut } from "../client/session";
import { longTime } from "../parts/format";

export function SignIn({ onDone }: { onDone(): void }) {
  const fault = useSignal<string | null>(null);
  const faultId = useId();
  const now = session.value;
  if (now !== null)
    return (
      <>
        <p>
          {now.user}, {isAdmin.value ? "who may change rules" : "without the right to change rules"}. The token runs out at{" "}
          {longTime(now.expiresAtMs)}.
        </p>
        <button onClick={() => signOut()}>Sign out</button>
      </>
    );

  function submit(event: SubmitEvent): void {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    fault.value = signIn(String(new FormData(form).get("token") ?? ""));
    form.reset();
    if (fault.value === null) onDone();
  }

  return (
    <form onSubmit={submit} class="stack">
      <p>
        {signedOutBecause.value ?? "Reading needs no token. With one, you keep your own settings, webhook and selections, and an admin changes rules."}
      </p>
      <label>
        Token
        <input name="token" type="password" autocomplete="off" required aria-describedby={faultId} />
      </label>
      <p id={faultId} class="bad" role="alert">
        {fault.value}
      </p>
      <p class="faint">
        <code>screener token</code> prints one on the machine of the screener; it stays in this tab until you close it.
      </p>
      <button class="main">Sign in</button>
    </form>
  );
}
