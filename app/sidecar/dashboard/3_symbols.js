const SHOWN_SYMBOLS = 250;
const SYMBOL_COLUMNS = [
  {name: "symbol", title: "Symbol", show: (row, value) => cell(row, value)},
  {name: "close", title: "Price", show: (row, value) => cell(row, price(value), "number")},
  {name: "price_change", title: "Change", show: changeCell},
  {name: "quote_volume", title: "Volume", show: (row, value) => cell(row, amount(value), "number")},
  {name: "volume_ratio", title: "Ratio", show: (row, value) => cell(row, number(value, 2), "number")},
  {name: "rsi_14", title: "RSI", show: (row, value) => cell(row, number(value, 1), "number")},
];
const SYMBOL_FIELDS = SYMBOL_COLUMNS.slice(1).map(column => column.name);
const symbols = new Map();
const order = {column: "price_change", descending: true};
let symbolsChanged = false;

function takeValues(values) {
  const timeframe = element("timeframe").value;
  for (const value of values) {
    // an update of the timeframe before may still be on its way
    if (timeframe in value.timeframes) symbols.set(value.symbol, {symbol: value.symbol, ...value.timeframes[timeframe]});
  }
  symbolsChanged = true;
}
function compare(one, other) {
  const [a, b] = [one[order.column], other[order.column]];
  if (!known(a) || !known(b)) return known(b) - known(a);
  const difference = typeof a === "string" ? a.localeCompare(b) : a - b;
  return order.descending ? -difference : difference;
}
function showSymbols() {
  const search = element("symbol-search").value.trim().toUpperCase();
  const matching = [...symbols.values()].filter(one => one.symbol.includes(search)).sort(compare);
  const rows = matching.slice(0, SHOWN_SYMBOLS).map(one => {
    const row = active(document.createElement("tr"), () => explainSymbol(one.symbol));
    for (const column of SYMBOL_COLUMNS) column.show(row, one[column.name]);
    return row;
  });
  element("symbols").replaceChildren(...rows);
  element("no-symbols").hidden = rows.length > 0;
  const whole = matching.filter(one => known(one.price_change)).length;
  element("counts").textContent = `${symbols.size} symbols, ${whole} with a whole ${element("timeframe").value} window`;
}
function showOrder() {
  for (const head of element("symbol-columns").children) {
    const sorted = head.dataset.name === order.column;
    head.setAttribute("aria-sort", !sorted ? "none" : order.descending ? "descending" : "ascending");
  }
}

for (const {name, title} of SYMBOL_COLUMNS) {
  const head = make("th", "", ...(name === "symbol" ? [] : ["number"]));
  const button = make("button", title);
  head.dataset.name = name;
  button.onclick = () => {
    order.descending = order.column === name ? !order.descending : name !== "symbol";
    order.column = name;
    showOrder();
    showSymbols();
  };
  head.append(button);
  element("symbol-columns").append(head);
}
showOrder();
element("symbol-search").oninput = showSymbols;
setInterval(() => {
  // rows that move away under the pointer or the keyboard cannot be chosen
  const busy = element("symbols").matches(":hover, :focus-within");
  if (!symbolsChanged || document.hidden || busy) return;
  symbolsChanged = false;
  showSymbols();
}, 1000);
