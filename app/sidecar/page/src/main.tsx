import { effect } from "@preact/signals";
import { render } from "preact";
import { startLive } from "./client/live";
import { signedOutBecause } from "./client/session";
import { dismiss, notify } from "./parts/notices";
import { App } from "./shell/app";
import { listenForKeys } from "./shell/keys";
import { tellOfNewAlerts } from "./alerts/sounds";
import { startAlerts } from "./state/alerts";
import "./state/column_ids";
import "./state/mutes";
import { followPerson } from "./state/personal";
import "./state/quiet";
import "./state/screens";
import "./state/watchlists";
import { watchHealth } from "./state/health";
import { followSelections } from "./state/mine";
import { watchRules } from "./state/rules";

followPerson();
const place = document.getElementById("page");
if (place !== null) render(<App />, place);
listenForKeys();
// read the history first: the subscription then resumes after its newest alert
const patience = new Promise((resolve) => setTimeout(resolve, 3000));
void Promise.race([startAlerts(), patience]).finally(startLive);
watchHealth();
watchRules();
followSelections();
tellOfNewAlerts();
effect(() => {
  const why = signedOutBecause.value;
  if (why === null) dismiss("signed-out");
  else notify({ id: "signed-out", text: why });
});
