const element = id => document.getElementById(id);
const known = value => value !== null && value !== undefined;
const number = (value, digits) => known(value)
  ? value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}) : "–";
const price = value => known(value) ? value.toLocaleString("en", {maximumSignificantDigits: 7}) : "–";
const amount = value => known(value) ? value.toLocaleString("en", {notation: "compact", maximumFractionDigits: 1}) : "–";

function make(tag, text, ...classes) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}
function cell(row, text, ...classes) {
  const made = make("td", text, ...classes);
  row.append(made);
  return made;
}
function changeCell(row, value) {
  const text = known(value) ? (value > 0 ? "+" : "") + number(value, 2) + " %" : "–";
  cell(row, text, "number", ...(known(value) && value !== 0 ? [value > 0 ? "up" : "down"] : []));
}
/** A row that does something when clicked, or chosen with the keyboard. */
function active(row, action) {
  row.tabIndex = 0;
  row.onclick = action;
  row.onkeydown = event => { if (event.key === "Enter") action(); };
  return row;
}

class Refusal extends Error {
  constructor(status, body) {
    super(body.message || "no answer");
    this.status = status;
    this.code = body.error;
    this.position = body.position;
  }
}
let token = null;
async function answer(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => known(value) && value !== "");
  const text = new URLSearchParams(given).toString();
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const response = await fetch(text ? `${path}?${text}` : path, {headers});
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, body);
  return body;
}

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = !text;
}
