// What is left of every layer: one map, layers down, methods and levels across.

function layersSection() {
  const { blocks, left_out: leftOut } = DATA.layers;
  if (!blocks.length) return null;
  const few = 0.1;
  const state = { block: 0, schedule: "", method: "", seed: "" };
  const map = h("table", { class: "map", id: "layers-map" }), controls = h("div", { class: "controls" });
  const entries = () => blocks[state.block].nets;

  function choices() {
    const rows = entries().map((entry) => entry.net);
    const schedules = distinct(rows.map((row) => RUNS.schedule[row])), methods = distinct(rows.map((row) => RUNS.method[row]));
    const seeds = distinct(rows.map((row) => RUNS.seed[row]));
    state.schedule = schedules[0];
    state.method = state.seed = "";
    const set = (key) => (value) => { state[key] = value; draw(); };
    const names = blocks.map((block, at) => [at, `${block.model}${new Set(blocks.map((b) => b.granularity)).size > 1 ? `, ${block.granularity}` : ""}`]);
    controls.replaceChildren(...[
      choice("Model", names, (value) => { state.block = Number(value); choices(); draw(); }, state.block).element,
      choice("Schedule", schedules, set("schedule")).element,
      methods.length > 1 ? choice("Method", [["", "all shown"], ...methods], set("method")).element : "",
      seeds.length > 1 ? choice("Seed", [["", "mean of all"], ...seeds], set("seed")).element : "",
      h("span", { class: "status" }, "0 % ", h("span", { class: "scale" }), " 100 % kept; outlined: below 10 %"),
    ].filter(Boolean));
  }

  function draw() {
    const block = blocks[state.block], columns = [];
    const masked = block.granularity === "weights";
    const chosen = entries().filter(({ net }) => RUNS.schedule[net] === state.schedule && (state.seed === "" || String(RUNS.seed[net]) === state.seed)
      && (state.method ? RUNS.method[net] === state.method : !hidden.has(RUNS.method[net])));
    for (const method of distinct(chosen.map(({ net }) => RUNS.method[net]))) {
      const mine = chosen.filter(({ net }) => RUNS.method[net] === method);
      const levels = distinct(mine.map(({ net }) => RUNS.keep[net])).sort((a, b) => b - a);
      levels.forEach((level, at) => {
        const nets = mine.filter(({ net }) => RUNS.keep[net] === level);
        columns.push({ method, level, first: at === 0, span: levels.length,
          kept: block.dense.map((_, layer) => mean(nets.map(({ kept }) => kept[layer]))) });
      });
    }
    const cell = (column, layer) => {
      const fraction = column.kept[layer] / block.dense[layer], gone = Math.round((1 - fraction) * 100);
      const light = isDark() ? gone < 55 : gone < 60;
      return h("td", {
        class: [column.first && "first", fraction < few && "few"].filter(Boolean).join(" ") || null,
        style: `background:color-mix(in oklab, var(--cut) ${gone}%, var(--surface));color:${light ? "var(--ink)" : isDark() ? "#0e1113" : "#fff"}`,
        title: `${column.method}, keep ${column.level.toFixed(2)}: ${number(column.kept[layer], Number.isInteger(column.kept[layer]) ? 0 : 1)} of ${block.dense[layer]}`,
      }, masked ? percent(fraction, 0) : number(column.kept[layer], Number.isInteger(column.kept[layer]) ? 0 : 1));
    };
    map.replaceChildren(
      h("thead", {},
        h("tr", {}, h("th", { class: "pinned" }, ""), h("th", {}, ""), columns.filter((c) => c.first).map((c) =>
          h("th", { class: "first group", colspan: c.span, scope: "colgroup" }, swatch(c.method), " ", c.method))),
        h("tr", {}, h("th", { class: "pinned", scope: "col", style: "top:1.7rem" }, "Layer"), h("th", { scope: "col", style: "top:1.7rem" }, "Dense"), columns.map((c) =>
          h("th", { class: c.first ? "first" : null, scope: "col", style: "top:1.7rem" }, c.level.toFixed(2))))),
      h("tbody", {}, block.layers.map((name, layer) => h("tr", {}, h("th", { class: "pinned", scope: "row", title: name }, name),
        h("td", { class: "dim" }, whole(block.dense[layer])), columns.map((column) => cell(column, layer))))));
  }

  choices();
  drawn(draw);
  return section("layers", "Where it was cut",
    "What is left of every layer at each level: output channels, or per cent of the weights where single weights went. The stronger the colour, the less is left. (+n): and n layers coupled to it."
    + (leftOut ? ` ${plural(leftOut, "network")} are left out to keep this page small; plan.json has each.` : ""),
    controls, h("div", { class: "box fit", tabindex: "0", role: "region", "aria-label": "Kept channels" }, map));
}
