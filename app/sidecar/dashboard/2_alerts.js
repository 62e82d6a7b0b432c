const KEPT = 500, SEVERITIES = ["critical", "high", "medium", "low", "info"];
const alerts = new Map();
const shownSeverities = new Set(SEVERITIES);
/** The newest alert by seq: where to resume. */
let newest = null;

function wanted(alert) {
  const symbol = element("alert-symbol").value.trim().toUpperCase();
  const rule = element("alert-rule").value;
  return alert.symbol.includes(symbol) && (!rule || alert.rule_type === rule) && shownSeverities.has(alert.severity);
}
function filterAlerts() {
  let any = false;
  for (const {alert, row} of alerts.values()) any = !(row.hidden = !wanted(alert)) || any;
  element("no-alerts").hidden = any;
}

/** Of today without the date. */
function shortTime(timestamp) {
  const today = timestamp.startsWith(new Date().toISOString().slice(0, 10));
  return today ? timestamp.slice(11, 19) : timestamp.slice(5, 16).replace("T", " ");
}
function alertRow(alert, fresh) {
  const row = active(document.createElement("tr"), () => explainAlert(alert));
  row.title = `${alert.timestamp} ${alert.description}`;
  row.hidden = !wanted(alert);
  if (fresh) row.classList.add("new");
  cell(row, shortTime(alert.timestamp));
  cell(row, alert.symbol);
  cell(row, alert.rule_type, alert.severity);
  cell(row, price(alert.price), "number");
  changeCell(row, alert.metadata.price_change_5m);
  changeCell(row, alert.metadata.price_change_1h);
  cell(row, amount(alert.metadata.volume_5m), "number");
  return row;
}
function showAlert(alert, fresh) {
  if (!newest || alert.seq > newest.seq) newest = {seq: alert.seq, id: alert.id};
  if (alerts.has(alert.id)) return;
  const row = alertRow(alert, fresh);
  alerts.set(alert.id, {alert, row});
  element("alerts").prepend(row);
  if (!row.hidden) element("no-alerts").hidden = true;
  if (alerts.size > KEPT) {
    const [oldest, {row: old}] = alerts.entries().next().value;
    alerts.delete(oldest);
    old.remove();
  }
}
function showGap(reason) {
  const row = make("tr", "", "gap");
  cell(row, reason === "too_old" ? "older alerts are not stored any more: some may be missing here"
    : "the numbers of alerts began anew: some may be missing here").colSpan = 7;
  element("alerts").prepend(row);
  newest = null;
}
async function alertHistory() {
  const page = await answer("api/alerts", {limit: 100});
  for (const alert of page.alerts.reverse()) showAlert(alert, false);
}

for (const severity of SEVERITIES) {
  const button = make("button", severity, severity);
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    const shown = !shownSeverities.delete(severity);
    if (shown) shownSeverities.add(severity);
    button.setAttribute("aria-pressed", String(shown));
    filterAlerts();
  };
  element("severities").append(button, " ");
}
element("alert-symbol").oninput = filterAlerts;
element("alert-rule").onchange = filterAlerts;
