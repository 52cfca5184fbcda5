// Values, elements, numbers, colours: what all parts of the page share.

const DATA = JSON.parse(document.getElementById("data").textContent);
const DENSE = "dense", LONGER = "dense-longer", FINETUNED = "finetuned", SCRATCH = "scratch";

/** Return a table of coded columns as plain columns. */
function decoded(columns) {
  const found = {};
  for (const [name, column] of Object.entries(columns)) {
    found[name] = Array.isArray(column) ? column : column.codes.map((code) => column.names[code]);
  }
  return found;
}

const RUNS = decoded(DATA.runs), SUMMARY = decoded(DATA.summary);
const distinct = (values) => [...new Set(values)];
const indices = (length) => Array.from({ length }, (_, i) => i);
const SEVERAL_MODELS = distinct(RUNS.model).length > 1;
const SCHEDULES = distinct(RUNS.schedule.filter(Boolean));

/** Make an element; text becomes text nodes, so no value is ever read as markup. */
function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for elements of SVG. */
function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== ""));
  return element;
}

const MINUS = "\u2212";
const absent = (value) => value == null || Number.isNaN(value);
const number = (value, decimals) => absent(value) ? "" : value.toFixed(decimals).replace(/^-(0\.?0*)$/, "$1").replace("-", MINUS);
const signed = (value, decimals) => absent(value) ? "" : (value >= 0 ? "+" : "") + number(value, decimals);
const whole = (value) => absent(value) ? "" : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
const percent = (fraction, decimals = 1) => absent(fraction) ? "" : number(fraction * 100, decimals);

/** Format a mean with its standard deviation, if there is one. */
function spread(mean, deviation, decimals = 1, sign = false) {
  const text = (sign ? signed : number)(mean, decimals);
  return absent(deviation) || !text ? text : `${text} ± ${number(deviation, decimals)}`;
}

function duration(seconds) {
  if (absent(seconds)) return "";
  if (seconds < 0.1) return "< 0.1 s";
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${number(seconds / 60, 1)} min`;
  return `${number(seconds / 3600, 1)} h`;
}

const mean = (values) => values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;

/** Plotly reads a few tags in texts: names are to be shown as they are. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** Name a net of the table of all nets, or of the summary. */
function netName(table, row) {
  const words = [table.method[row]];
  if (table.variant[row] === SCRATCH) words.push("scratch");
  if (SCHEDULES.length > 1 && table.schedule[row]) words.push(table.schedule[row]);
  if (table.schedule[row]) words.push(`keep ${table.keep[row].toFixed(2)}`);
  return (SEVERAL_MODELS ? `${table.model[row]}: ` : "") + words.join(", ");
}

// Themes.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const redraws = [];
let chosenTheme = null;
try { chosenTheme = localStorage.getItem("oba-theme"); } catch { chosenTheme = null; }

const isDark = () => root.dataset.theme === "dark";
const themed = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

function showTheme() {
  root.dataset.theme = chosenTheme || (systemDark.matches ? "dark" : "light");
  const button = document.getElementById("theme");
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
}

function toggleTheme() {
  chosenTheme = isDark() ? "light" : "dark";
  try { localStorage.setItem("oba-theme", chosenTheme); } catch { /* a page of its own may keep nothing */ }
  showTheme();
  redraw();
}

/** Have a part drawn again whenever methods, theme or width change. */
function drawn(draw) {
  redraws.push(draw);
  draw();
}

const redraw = () => redraws.forEach((draw) => draw());

// Methods: one colour and marker everywhere.

const STYLES = Object.fromEntries(DATA.methods.map((method) => [method.name, method]));
const hidden = new Set();
const SYMBOLS = {
  o: "circle", s: "square", "^": "triangle-up", D: "diamond", v: "triangle-down", p: "pentagon", "<": "triangle-left",
  h: "hexagon", ">": "triangle-right", d: "diamond-tall",
};
const SHAPES = {
  o: "M7 2a5 5 0 1 0 0 10a5 5 0 1 0 0-10z", s: "M2.5 2.5h9v9h-9z", "^": "M7 2l5.5 10h-11z", D: "M7 1l6 6-6 6-6-6z",
  v: "M7 12L1.5 2h11z", p: "M7 1.5l5.5 4-2 6.5h-7l-2-6.5z", "<": "M2 7l10-5.5v11z", h: "M7 1l5.2 3v6L7 13 1.8 10V4z",
  ">": "M12 7L2 1.5v11z", d: "M7 1l4 6-4 6-4-6z",
};
const symbol = (name) => SYMBOLS[STYLES[name]?.marker] || "circle";

/** Triangles look smaller than they are. */
const sized = (name, size) => symbol(name).startsWith("triangle") ? size * 1.25 : size;

/** Return a method's colour; on dark paper the same hue, lighter. */
function color(name) {
  if (name === DENSE) return themed("ink");
  if (name === LONGER) return themed("muted");
  const hex = STYLES[name]?.color || "#777777";
  if (!isDark()) return hex;
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `#${parts.map((part) => Math.round(part + (255 - part) * 0.36).toString(16).padStart(2, "0")).join("")}`;
}

const swatch = (name) => s("svg", { class: "swatch", viewBox: "0 0 14 14", "aria-hidden": "true" },
  s("path", { d: SHAPES[STYLES[name]?.marker] || SHAPES.o, fill: color(name) }));

// Controls.

/** Make a labelled choice; values are texts, or pairs of value and text. */
function choice(label, values, change, chosen) {
  const pairs = values.map((value) => Array.isArray(value) ? value : [value, value]);
  const select = h("select", { onchange: () => change(select.value) },
    pairs.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen) }, String(text))));
  return { element: pairs.length > 1 ? h("label", {}, label, select) : "", select };
}

/** Make a row of buttons of which one is pressed. */
function switcher(label, pairs, change, chosen) {
  const buttons = pairs.map(([value, text]) => h("button", {
    type: "button", "data-value": value, "aria-pressed": String(value === chosen), onclick: () => {
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.value === value)));
      change(value);
    },
  }, text));
  return h("div", { class: "switch", role: "group", "aria-label": label }, buttons);
}

// Charts.

const narrow = () => innerWidth < 640;

function axis(more = {}) {
  return {
    gridcolor: themed("rule"), linecolor: themed("muted"), zeroline: false, tickcolor: themed("muted"), ticklen: 4,
    tickfont: { size: 12, color: themed("muted") }, automargin: true, ...more,
    title: { text: more.title || "", font: { size: 13, color: themed("ink") }, standoff: 10 },
  };
}

function plot(element, traces, layout) {
  const base = {
    width: element.clientWidth || undefined, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, color: themed("ink"), size: 12.5 },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: themed("surface"), bordercolor: themed("rule"), align: "left",
      font: { color: themed("ink"), size: 12.5 } },
  };
  Plotly.react(element, traces, { ...base, ...layout }, { displayModeBar: false, responsive: false });
}

const section = (id, title, about, ...children) => h("section", { id },
  h("h2", {}, title), about ? h("p", { class: "about" }, about) : "", children);
