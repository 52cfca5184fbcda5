// One net, class by class: how many it gets right, and what it takes for what.

const MATRIX = 30;

function classesSection() {
  const { names, nets, left_out: leftOut } = DATA.classes;
  if (!nets.length) return null;
  const byRow = new Map(nets.map((entry) => [entry.net, entry]));
  const groups = new Map();
  nets.forEach((entry) => {
    const key = netName(RUNS, entry.net);
    groups.set(key, [...(groups.get(key) || []), entry]);
  });
  const keys = [...groups.keys()];
  // To begin with, the best net of the smallest level.
  const first = nets.map(({ net }) => net).sort((a, b) => RUNS.keep[a] - RUNS.keep[b] || RUNS.test_top1[b] - RUNS.test_top1[a] || a - b)[0];
  const state = { net: netName(RUNS, first), seed: RUNS.seed[first] };
  const controls = h("div", { class: "controls" }), panel = h("div", { class: "pair" });

  function choices() {
    const seeds = groups.get(state.net).map((entry) => RUNS.seed[entry.net]);
    if (!seeds.includes(state.seed)) state.seed = seeds[0];
    controls.replaceChildren(choice("Network", keys, (value) => { state.net = value; choices(); draw(); }, state.net).element,
      choice("Seed", seeds, (value) => { state.seed = Number(value); draw(); }, state.seed).element);
  }

  function draw() {
    const entry = groups.get(state.net).find(({ net }) => RUNS.seed[net] === state.seed);
    const dense = nets.find(({ net }) => RUNS.method[net] === DENSE && RUNS.model[net] === RUNS.model[entry.net] && RUNS.seed[net] === state.seed);
    panel.replaceChildren(perClass(entry, dense), names.length <= MATRIX ? matrix(entry) : pairs(entry));
  }

  function perClass(entry, dense) {
    const rate = (of, index) => of.images[index] ? of.correct[index] / of.images[index] : null;
    const order = indices(entry.images.length).filter((index) => entry.images[index]).sort((a, b) => rate(entry, a) - rate(entry, b));
    const shown = order.slice(0, MATRIX);
    const compared = dense && dense !== entry;
    const row = (index) => {
      const own = rate(entry, index), other = compared ? rate(dense, index) : null;
      return h("tr", {}, h("th", { class: "pinned", scope: "row", title: names[index] }, names[index]),
        h("td", { class: "track" }, h("span", { class: "meter", style: `width:${number(own * 100, 1)}%` })), h("td", {}, percent(own)),
        compared ? h("td", {}, signed((own - other) * 100, 1)) : "", h("td", { class: "dim" }, whole(entry.images[index])));
    };
    return h("div", {}, h("h3", {}, "Accuracy by class"),
      h("p", { class: "about" }, `Test images, the lowest first${order.length > shown.length ? `; the ${MATRIX} lowest of ${order.length} classes` : ""}.`),
      h("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Accuracy by class" }, h("table", { id: "class-table" },
        h("thead", {}, h("tr", {}, h("th", { class: "pinned", scope: "col" }, "Class"), h("th", { class: "track" }, ""), h("th", { scope: "col" }, "%"),
          compared ? h("th", { scope: "col", title: "Against the dense network of the same seed, in points" }, "vs dense") : "", h("th", { scope: "col" }, "Images"))),
        h("tbody", {}, shown.map(row)))));
  }

  function matrix(entry) {
    const counts = new Map(entry.confusions.map(([from, to, count]) => [`${from} ${to}`, count]));
    const count = (from, to) => from === to ? entry.correct[from] : counts.get(`${from} ${to}`) || 0;
    const cell = (from, to) => {
      const value = count(from, to), share = entry.images[from] ? value / entry.images[from] : 0;
      const strength = value ? Math.round(from === to ? 8 + share * 47 : 25 + Math.min(share * 4, 1) * 75) : 0;
      const strong = from !== to && strength > 60;
      return h("td", { style: `background:color-mix(in oklab, var(--${from === to ? "cut" : "alarm"}) ${strength}%, var(--surface));`
        + (strong ? `color:${isDark() ? "#14171a" : "#fff"}` : ""), title: `${names[from]} taken for ${names[to]}: ${value} of ${entry.images[from]}` }, value ? whole(value) : "");
    };
    const classes = indices(names.length);
    return h("div", {}, h("h3", {}, "Confusions"),
      h("p", { class: "about" }, "Rows: true class; columns: what the network said." + (entry.cut ? " Rare confusions are left out." : "")),
      h("div", { class: "box fit", tabindex: "0", role: "region", "aria-label": "Confusions" }, h("table", { class: "map", id: "confusions" },
        h("thead", {}, h("tr", {}, h("th", { class: "pinned" }, ""), classes.map((to) => h("th", { scope: "col", title: names[to] }, names[to].slice(0, 8))))),
        h("tbody", {}, classes.map((from) => h("tr", {}, h("th", { class: "pinned", scope: "row" }, names[from]), classes.map((to) => cell(from, to))))))));
  }

  function pairs(entry) {
    const most = entry.confusions.slice(0, MATRIX), top = most.length ? most[0][2] : 1;
    return h("div", {}, h("h3", {}, "Confusions"), h("p", { class: "about" }, `The ${most.length} most frequent wrong answers.`),
      h("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Confusions" }, h("table", { id: "confusions" },
        h("thead", {}, h("tr", {}, h("th", { class: "left", scope: "col" }, "True class"), h("th", { class: "left", scope: "col" }, "Taken for"), h("th", { class: "track" }, ""), h("th", { scope: "col" }, "Images"))),
        h("tbody", {}, most.map(([from, to, count]) => h("tr", {}, h("td", { class: "left" }, names[from]), h("td", { class: "left" }, names[to]),
          h("td", { class: "track" }, h("span", { class: "meter", style: `width:${number(count / top * 100, 1)}%` })), h("td", {}, `${count} of ${entry.images[from]}`)))))));
  }

  choices();
  drawn(draw);
  return section("classes", "Class by class", leftOut ? `${plural(leftOut, "network")} are left out to keep this page small; evaluation.json has each.` : "", controls, panel);
}
