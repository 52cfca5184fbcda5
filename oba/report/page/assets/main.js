// The page from top to bottom.

function heading() {
  const { data, seeds, alerts, speedup_alerts: slow, missing } = DATA;
  const models = distinct(RUNS.model), methods = DATA.methods.filter(({ name }) => name !== DENSE).length;
  const levels = distinct(RUNS.keep.filter((_, row) => RUNS.schedule[row])).sort((a, b) => b - a);
  const size = data.input_size ? `${data.input_size.join(" × ")}, ` : "";
  const images = data.images ? `${size}${plural(data.classes, "class")}, ${plural(data.images, "image")}` : "";
  const fact = (label, text, small) => h("div", {}, h("dt", {}, label), h("dd", {}, text, small ? [" ", h("small", {}, small)] : ""));
  const some = (values, most) => values.length > most ? `${values.slice(0, most).join(", ")} and ${values.length - most} more` : values.join(", ");
  const found = [
    ...DATA.headlines.slice(0, 4).map((text) => h("p", { class: "lede" }, text)),
    DATA.headlines.length > 4 ? h("p", { class: "about" }, `And ${plural(DATA.headlines.length - 4, "model")} more below.`) : "",
    h("dl", { class: "facts" },
      data.name ? fact("Data", data.name, images && `(${images})`) : "",
      fact(models.length > 1 ? "Models" : "Model", some(models, 4)),
      fact("Seeds", seeds.length > 6 ? `${seeds.length}` : seeds.join(", ")),
      fact("Methods", String(methods)),
      levels.length ? fact("Levels of keep", some(levels.map((level) => level.toFixed(2)), 8)) : "",
      fact("Networks", DATA.finished < DATA.nets ? `${whole(DATA.finished)} of ${whole(DATA.nets)} finished` : whole(DATA.nets)))];
  const warnings = [...alerts, ...slow];
  // What is long is a list after a colon: the list opens on a click.
  const warning = (text) => {
    const end = text.length > 160 ? text.indexOf(": ", models.find((model) => text.startsWith(`${model}: `))?.length + 2 || 0) : -1;
    return end < 0 ? text : [`${text.slice(0, end)}. `, h("details", {}, h("summary", {}, "Which ones"), h("ul", {}, text.slice(end + 2).split("; ").map((one) => h("li", {}, one))))];
  };
  if (warnings.length) {
    found.push(h("div", { class: "alerts", role: "note" }, h("h2", {}, "Before you read on"), h("ul", {}, warnings.map((text) => h("li", {}, warning(text)))),
      missing.length ? h("details", { id: "missing" }, h("summary", {}, `Missing networks (${whole(missing.length)})`), h("ul", {}, missing.slice(0, 200).map((text) => h("li", {}, text)),
        missing.length > 200 ? h("li", {}, `and ${whole(missing.length - 200)} more in the table of all networks`) : "")) : ""));
  }
  return found.filter(Boolean);
}

function start() {
  showTheme();
  document.getElementById("theme").addEventListener("click", toggleTheme);
  systemDark.addEventListener("change", () => { showTheme(); redraw(); });
  document.getElementById("top").append(...heading());
  const [tradeoff, drawTradeoff] = tradeoffSection(), [training, drawTraining] = trainingSection();
  const sections = [tradeoff, tablesSection(), layersSection(), training, classesSection(), costSection(), originSection()].filter(Boolean);
  document.querySelector("main").append(...sections, h("footer", {}, `Experiment ${DATA.experiment}. Beside this page: summary.csv, runs.csv, summary.md and the pictures for print.`));
  document.getElementById("links").append(...sections.map((element) => h("a", { href: `#${element.id}` }, element.querySelector("h2").textContent)));
  drawTradeoff();
  drawTraining();
  // Paper is white, and narrower than a screen.
  const print = (on) => () => {
    showTheme();
    root.classList.toggle("printing", on);
    if (on) root.dataset.theme = "light";
    redraw();
  };
  addEventListener("beforeprint", print(true));
  addEventListener("afterprint", print(false));
  let width = innerWidth, waiting = null;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; redraw(); } }, 150);
  });
}

start();
