function foundRow(one, columns) {
  const row = active(document.createElement("tr"), () => explainSymbol(one.symbol));
  cell(row, one.symbol);
  cell(row, price(one.price), "number");
  for (const column of columns) cell(row, price(one.values[column]), "number");
  return row;
}
function showFound(body) {
  const columns = body.symbols.length ? Object.keys(body.symbols[0].values) : [];
  const heads = [make("th", "Symbol"), make("th", "Price", "number"), ...columns.map(name => make("th", name, "number"))];
  element("found-columns").replaceChildren(...heads);
  element("found").replaceChildren(...body.symbols.map(one => foundRow(one, columns)));
  element("found-note").textContent = `${body.matched} of ${body.evaluated} symbols`;
}
/** The text with a mark below the place of its fault. */
function showFault(text, error) {
  const place = known(error.position) ? `${text}\n${" ".repeat(error.position)}^\n` : "";
  element("fault").replaceChildren(place, make("span", error.message));
  element("fault").hidden = false;
}
let screening = null;
async function screen() {
  clearTimeout(screening);
  const where = element("expression").value.trim(), sort = element("sort").value.trim();
  if (!where) return;
  try {
    showFound(await answer("api/screener", {where, sort, order: sort ? "desc" : null, limit: 100}));
    element("fault").hidden = true;
  } catch (error) {
    showFault(error.message.startsWith("sort") ? sort : where, error);
  }
  if (element("again").checked) screening = setTimeout(screen, 5000);
}
element("screener").onsubmit = event => { event.preventDefault(); screen(); };
element("again").onchange = screen;
