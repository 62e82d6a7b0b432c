const VERDICTS = {
  fired: "It fired.",
  held_back: "The condition is true, but there was no alert: cooling down, not held long enough, switched off, or not for this symbol.",
  not_met: "The condition is not true.",
  unknown: "The condition cannot be told: values are missing.",
};
function clauseItem(clause) {
  const item = document.createElement("li");
  const [mark, kind] = clause.truth === true ? ["✓", "true"] : clause.truth === false ? ["✗", "false"] : ["–", "faint"];
  item.append(make("span", mark, "mark", kind), make("code", clause.text));
  if (known(clause.margin)) {
    const margin = `${clause.margin > 0 ? "+" : ""}${price(clause.margin)}`;
    item.append(make("span", `  ${price(clause.value)} against ${price(clause.threshold)}, margin ${margin}`, "faint"));
  } else if (clause.null_because) {
    item.append(make("span", `  ${clause.null_because}`, "faint"));
  }
  if (clause.parts) item.append(clauseList(clause.parts));
  return item;
}
function clauseList(clauses) {
  const list = make("ul", "", "clauses");
  list.append(...clauses.map(clauseItem));
  return list;
}
function showExplanation(body) {
  const minute = `${body.minute.slice(0, 16).replace("T", " ")} UTC${body.closed ? "" : ", still forming"}`;
  const last = body.last_alert ? `Last alert: ${body.last_alert.timestamp.slice(0, 19).replace("T", " ")} UTC.` : "No alert so far.";
  element("explained").replaceChildren(
    make("p", `${body.symbol}, ${minute}. ${VERDICTS[body.verdict]} ${last}`),
    clauseList([body.clause]),
  );
}
async function explain() {
  const [symbol, rule, at] = ["symbol", "rule", "at"].map(name => element(`explain-${name}`).value.trim());
  if (!symbol || !rule) return;
  try {
    showExplanation(await answer("api/explain", {symbol: symbol.toUpperCase(), rule, at}));
  } catch (error) {
    element("explained").replaceChildren(make("p", error.message, "down"));
  }
}
function openExplanation(symbol, rule, at) {
  element("explain-symbol").value = symbol;
  if (rule) element("explain-rule").value = rule;
  element("explain-at").value = at;
  element("explained").replaceChildren();
  if (!element("explanation").open) element("explanation").showModal();
  explain();
}
function explainAlert(alert) {
  // a closed minute's alert bears the time of its end, which is the next minute's beginning
  const within = new Date(Date.parse(alert.timestamp) - 1).toISOString();
  openExplanation(alert.symbol, alert.rule_type, within);
}
const explainSymbol = symbol => openExplanation(symbol, null, "");

async function loadRules() {
  const {rules} = await answer("api/rules");
  const chosen = {filter: element("alert-rule").value, explain: element("explain-rule").value};
  const names = rules.map(rule => rule.rule_type).sort();
  const options = () => names.map(name => Object.assign(make("option", name), {value: name}));
  element("alert-rule").replaceChildren(element("alert-rule").options[0], ...options());
  element("explain-rule").replaceChildren(...options());
  element("alert-rule").value = names.includes(chosen.filter) ? chosen.filter : "";
  if (names.includes(chosen.explain)) element("explain-rule").value = chosen.explain;
}
element("explain").onsubmit = event => { event.preventDefault(); explain(); };
element("explain-close").onclick = () => element("explanation").close();
