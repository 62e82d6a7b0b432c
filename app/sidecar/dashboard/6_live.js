const FIRST_RETRY_MS = 500, LONGEST_RETRY_MS = 10000, HEALTH_MS = 10000;
let socket = null, retryMs = FIRST_RETRY_MS;

function state(text, open) {
  element("state").textContent = text;
  element("state").classList.toggle("open", open);
}
const say = message => socket.send(JSON.stringify(message));
function subscribeAlerts() {
  const point = newest ? {since: newest.seq, ...(newest.id ? {since_id: newest.id} : {})} : {};
  say({type: "subscribe", channel: "alerts", mine: element("mine").checked, ...point});
}
function subscribeMetrics() {
  symbols.clear();
  say({type: "subscribe", channel: "metrics", timeframes: [element("timeframe").value], fields: SYMBOL_FIELDS, interval_ms: 1000});
}
function refused(message) {
  const {error, message: text} = message.data;
  if (error === "not_ready") setTimeout(() => { if (socket.readyState === WebSocket.OPEN) subscribeAlerts(); }, 2000);
  else notice(text);
  if (["token_required", "token_invalid", "token_expired"].includes(error)) element("user").open = true;
}
const HEARD = {
  authenticated: () => { element("mine-label").hidden = false; },
  subscribed: message => { if (message.channel === "alerts" && !newest) newest = {seq: message.seq}; },
  alert: message => showAlert(message.data, true),
  gap: message => showGap(message.data.reason),
  snapshot: message => takeValues(message.data),
  update: message => takeValues(message.data),
  error: refused,
};

function connect() {
  const address = new URL("ws", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.onopen = () => {
    state("live", true);
    notice("");
    if (token) say({type: "auth", token});
    subscribeAlerts();
    subscribeMetrics();
  };
  socket.onmessage = event => {
    retryMs = FIRST_RETRY_MS;
    const message = JSON.parse(event.data);
    HEARD[message.type]?.(message);
  };
  socket.onclose = event => {
    state(event.reason || "reconnecting", false);
    const told = /retry_after_ms=(\d+)/.exec(event.reason);
    setTimeout(connect, told ? Number(told[1]) + FIRST_RETRY_MS : retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
  };
}

function healthItem(name, fine, aged, title) {
  const item = make("li", name, ...(fine ? ["fine"] : aged ? ["aged"] : []));
  item.title = title;
  return item;
}
async function health() {
  // the report is the same whether all is well (200) or not (503)
  const response = await fetch("api/health");
  const report = await response.json();
  const servers = Object.entries(report.dependencies)
    .map(([name, {state: now, needed}]) => healthItem(name, now === "up", !needed, now));
  const stages = Object.entries(report.stages)
    .map(([name, {state: now, age_s: age}]) => healthItem(name, now === "fresh", now === "stale", known(age) ? `${now}, sent ${number(age, 0)} s ago` : now));
  element("health").replaceChildren(...servers, ...stages);
}
function watchHealth() {
  health().catch(() => element("health").replaceChildren(healthItem("sidecar", false, false, "no answer")));
  setTimeout(watchHealth, HEALTH_MS);
}

element("mine").onchange = () => { if (socket?.readyState === WebSocket.OPEN) subscribeAlerts(); };
element("timeframe").onchange = () => { if (socket?.readyState === WebSocket.OPEN) subscribeMetrics(); };
element("sign-in").onsubmit = event => {
  event.preventDefault();
  token = element("token").value.trim() || null;
  element("token").value = "";
  element("user").open = false;
  notice("");
  loadRules().catch(() => {});
  socket.close();
};
loadRules().catch(error => notice(error.message));
alertHistory().catch(() => {}).finally(connect);
watchHealth();
