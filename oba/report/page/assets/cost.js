// The stages of the sweep, how many jobs each has, and what they took.

const WORDS = { evaluate_dense: "evaluate dense", finetune: "fine-tune" };
const stageName = (name) => WORDS[name] || name;
// Where each stage stands: column and row; two columns of the drawing become rows on a narrow screen.
const PLACES = { prepare: [0, 1], split: [1, 0], trace: [1, 2], dense: [2, 0], evaluate_dense: [3, 0], prune: [3, 2], finetune: [4, 2],
  scratch: [4, 3.2], evaluate: [5, 1], report: [6, 1] };

function dagDrawing() {
  const stages = DATA.stages.filter((stage) => stage.name in PLACES);
  const nodes = [...stages, { name: "report", after: ["evaluate", "evaluate_dense"].filter((name) => stages.some((stage) => stage.name === name)).slice(0, 1), jobs: 1, finished: 1 }];
  const upright = narrow(), [wide, high] = [132, 46], rows = nodes.some((node) => node.name === "scratch") ? 4.2 : 3;
  const at = (name) => {
    const [column, row] = PLACES[name];
    return upright ? [row * (wide - 18) * 0.98 + 2, column * 84 + 4] : [column * (wide + 32) + 2, row * 58 + 4];
  };
  const width = upright ? (rows - 1) * (wide - 18) + wide + 6 : 7 * (wide + 32) - 26, height = upright ? 6 * 84 + high + 10 : (rows - 1) * 58 + high + 10;
  const nodesByName = new Map(nodes.map((node) => [node.name, node]));
  // An edge is left out where a longer way says the same.
  const reaches = (from, to) => nodesByName.get(to).after.some((name) => nodesByName.has(name) && name !== to && (name === from || (PLACES[name][0] > PLACES[from][0] && reaches(from, name))));
  const direct = (from, to) => !nodesByName.get(to).after.some((name) => name !== from && name !== to && nodesByName.has(name)
    && PLACES[name][0] > PLACES[from][0] && PLACES[name][0] <= PLACES[to][0] && reaches(from, name));
  const edges = nodes.flatMap((node) => node.after.filter((name) => nodesByName.has(name) && name !== node.name).filter((name) =>
    PLACES[name][0] > PLACES[node.name][0] || direct(name, node.name)).map((name) => [name, node.name]));
  const path = ([from, to]) => {
    const [x0, y0] = at(from), [x1, y1] = at(to);
    if (PLACES[from][0] > PLACES[to][0]) {
      return upright ? `M${x0 + wide * 0.8} ${y0} V${y1 + high + 3}` : `M${x0 + wide / 2} ${y0} C${x0 + wide / 2} ${y0 - 34} ${x1 + wide / 2} ${y1 - 34} ${x1 + wide / 2} ${y1 - 3}`;
    }
    if (PLACES[from][0] === PLACES[to][0]) {
      return upright ? `M${x0 + wide} ${y0 + high / 2} H${x1 - 3}` : `M${x0 + wide / 2} ${y0 + high} V${y1 - 3}`;
    }
    return upright ? `M${x0 + wide / 2} ${y0 + high} C${x0 + wide / 2} ${y0 + high + 20} ${x1 + wide / 2} ${y1 - 22} ${x1 + wide / 2} ${y1 - 3}`
      : `M${x0 + wide} ${y0 + high / 2} C${x0 + wide + 20} ${y0 + high / 2} ${x1 - 22} ${y1 + high / 2} ${x1 - 3} ${y1 + high / 2}`;
  };
  const label = `Stages: ${nodes.map((node) => `${stageName(node.name)}, ${plural(node.jobs, "job")}`).join("; ")}`;
  return s("svg", { class: "dag", viewBox: `0 0 ${width} ${height}`, style: `max-width:${width}px`, role: "img", "aria-label": label, id: "dag" },
    s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 0L8 4L0 8z" }))),
    edges.map((edge) => s("path", { d: path(edge), "marker-end": "url(#arrow)", "data-edge": edge.join(" ") })),
    nodes.map((node) => {
      const [x, y] = at(node.name), open = node.finished < node.jobs;
      const count = open ? `${whole(node.finished)} of ${plural(node.jobs, "job")}` : plural(node.jobs, "job");
      const took = duration(node.sum_seconds);
      return s("g", {}, s("rect", { x, y, width: wide, height: high, rx: 7, class: open ? "open" : null }),
        s("text", { x: x + 11, y: y + 19 }, stageName(node.name)),
        s("text", { x: x + 11, y: y + 36, class: "small" }, took ? `${count} · ${took}` : count));
    }));
}

function costSection() {
  const stages = DATA.stages.filter((stage) => stage.jobs);
  if (!stages.length) return null;
  const total = stages.reduce((sum, stage) => sum + (stage.sum_seconds || 0), 0);
  const most = Math.max(...stages.map((stage) => stage.sum_seconds || 0)) || 1;
  const memory = stages.some((stage) => stage.memory_mb);
  const devices = stages.some((stage) => stage.devices.length);
  const cells = (stage) => [
    h("th", { class: "pinned", scope: "row" }, stageName(stage.name)),
    h("td", {}, stage.finished < stage.jobs ? `${whole(stage.finished)} of ${whole(stage.jobs)}` : whole(stage.jobs)),
    h("td", {}, duration(stage.median_seconds)), h("td", {}, duration(stage.longest_seconds)), h("td", {}, duration(stage.sum_seconds)),
    h("td", { class: "track" }, h("span", { class: "meter", style: `width:${number((stage.sum_seconds || 0) / most * 100, 1)}%` })),
    devices ? h("td", { class: "left" }, stage.devices.join(", ")) : "",
    memory ? h("td", {}, stage.memory_mb ? `${whole(stage.memory_mb)} MB` : "") : ""];
  const head = (...names) => h("thead", {}, h("tr", {}, names.filter(Boolean).map(([text, classes]) => h("th", { scope: "col", class: classes }, text))));
  const drawing = h("div", {});
  drawn(() => drawing.replaceChildren(dagDrawing()));

  const methods = DATA.methods.map(({ name }) => name).filter((name) => stages.some((stage) => name in stage.seconds_by_method));
  const own = stages.filter((stage) => Object.keys(stage.seconds_by_method).length);
  const byMethod = methods.length ? [h("h3", {}, "By method"),
    h("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Time by method" }, h("table", { id: "method-costs" },
      head(["Method", "pinned"], ...own.map((stage) => [stageName(stage.name)]), ["Sum"]),
      h("tbody", {}, methods.map((name) => h("tr", {}, h("th", { class: "pinned", scope: "row" }, name),
        own.map((stage) => h("td", {}, duration(stage.seconds_by_method[name]))),
        h("td", {}, duration(own.reduce((sum, stage) => sum + (stage.seconds_by_method[name] || 0), 0))))))))] : [];
  return section("cost", "What it cost",
    `${duration(total) || "No time"} of work in the jobs that are finished, one after the other; jobs that ran at the same time count each. A job that was resumed counts from its last start.`,
    drawing,
    h("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Time by stage" }, h("table", { id: "stage-costs" },
      head(["Stage", "pinned"], ["Jobs"], ["Median"], ["Longest"], ["Sum"], ["", "track"], devices && ["Device", "left"], memory && ["Peak memory"]),
      h("tbody", {}, stages.map((stage) => h("tr", {}, cells(stage)))))), byMethod);
}
