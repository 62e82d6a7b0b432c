/** The account view: who is signed in, which alerts they selected, and where these are sent. */
import { isAdmin, session, signOut } from "../client/session";
import { longTime } from "../parts/format";
import { SignIn } from "../shell/sign_in";
import { Deliveries } from "./deliveries";
import { Mutes } from "./mutes";
import { QuietHours } from "./quiet_hours";
import { Selections } from "./selections";
import { useSettings } from "./settings";
import { Webhook } from "./webhook";

export default function AccountView() {
  return (
    <section class="view scrolled" aria-labelledby="account-title">
      <div class="bar">
        <h2 id="account-title">Account</h2>
      </div>
      <div class="cards">
        <section class="card" aria-labelledby="who-title">
          <h3 id="who-title">{session.value === null ? "Sign in" : "Signed in"}</h3>
          <Who />
        </section>
        <section class="card" aria-labelledby="quiet-title">
          <h3 id="quiet-title">Quiet hours</h3>
          <QuietHours />
        </section>
        <section class="card" aria-labelledby="muted-title">
          <h3 id="muted-title">Muted</h3>
          <Mutes />
        </section>
        {session.value !== null && <Mine key={session.value.user} />}
      </div>
    </section>
  );
}

function Who() {
  const now = session.value;
  if (now === null) return <SignIn onDone={() => undefined} />;
  return (
    <>
      <dl class="facts">
        <dt>User</dt>
        <dd>{now.user}</dd>
        <dt>Rights</dt>
        <dd>{isAdmin.value ? "administrator: may change rules" : "may read everything, and change what is your own"}</dd>
        <dt>Until</dt>
        <dd>{longTime(now.expiresAtMs)}</dd>
      </dl>
      <p class="faint">Watchlists, screens, mutes, quiet hours and columns are yours in every browser. Those of this browser went into them.</p>
      <button onClick={() => signOut()}>Sign out</button>
    </>
  );
}

function Mine() {
  const settings = useSettings();
  const { known, fault } = settings;
  if (known === null)
    return (
      <section class="card">
        <p class={fault === null ? "faint" : "bad"} role={fault === null ? "status" : "alert"}>
          {fault ?? "Loading your settings…"}
        </p>
      </section>
    );
  return (
    <>
      <section class="card" aria-labelledby="chosen-title">
        <h3 id="chosen-title">Alerts you chose</h3>
        <Selections settings={settings} known={known} />
      </section>
      <section class="card" aria-labelledby="webhook-title">
        <h3 id="webhook-title">Webhook</h3>
        <Webhook settings={settings} known={known} />
      </section>
      {known.webhook !== null && (
        <section class="card wide" aria-labelledby="deliveries-title">
          <h3 id="deliveries-title">Deliveries</h3>
          <Deliveries />
        </section>
      )}
    </>
  );
}
