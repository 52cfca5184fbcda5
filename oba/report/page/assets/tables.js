// The table of means, and that of all nets.

const has = (table, name) => table[name].some((value) => !absent(value) && value !== "");

function methodColumn(table) {
  const text = (row) => table.method[row] + (table.variant[row] === SCRATCH ? ", scratch" : "");
  return { label: "Method", pinned: true, left: true, text, cell: (row) => [swatch(table.method[row]), " ", text(row)] };
}

const column = (table, name, label, format, title) =>
  ({ label, title, value: (row) => table[name][row], text: (row) => format(table[name][row], row) });
const named = (table, name, label) => ({ label, left: true, text: (row) => String(table[name][row]) });

function summaryTable() {
  const t = SUMMARY, d = Math.min(...t.seeds) >= 5 ? 2 : 1;
  const firsts = distinct(t.versus.filter(Boolean));
  const columns = [
    methodColumn(t),
    SEVERAL_MODELS && named(t, "model", "Model"),
    SCHEDULES.length > 1 && named(t, "schedule", "Schedule"),
    column(t, "keep", "Keep", (v) => v.toFixed(2), "Level: the fraction of the MACs, or of the weights, that a method is to keep"),
    column(t, "top1_percent", "Top-1 %", (v, i) => spread(v, t.top1_percent_std[i], d), "Test accuracy ± sample standard deviation over seeds"),
    has(t, "top5_percent") && column(t, "top5_percent", "Top-5 %", (v) => number(v, d)),
    column(t, "drop_points", "Drop", (v, i) => spread(v, t.drop_points_std[i], d), "What the dense network of the same seed has more, in percentage points"),
    firsts.length && column(t, "versus_points", `vs ${firsts.length > 1 ? "first" : firsts[0]}`,
      (v, i) => spread(v, t.versus_points_std[i], d, true), `Seed-paired difference to ${firsts.join(" or ")}, same schedule and level, in points; + is better`),
    column(t, "macs_kept_percent", "MACs %", (v) => number(v, 1), "Multiply-accumulates kept, per cent of dense"),
    has(t, "weights_kept_percent") && column(t, "weights_kept_percent", "Weights %", (v) => number(v, 1), "Weights kept, per cent of those that may go"),
    column(t, "parameters_kept_percent", "Params %", (v) => number(v, 1), "Parameters kept, per cent of dense"),
    column(t, "speedup", "Speedup", (v, i) => number(v, 2), "Latency of the dense network divided by that of this one"),
    column(t, "seeds", "Seeds", String, "Seeds that the means are over"),
  ].filter(Boolean);
  return makeTable({ id: "summary-table", label: "Means over seeds", columns, count: t.method.length,
    rowClass: (row) => t.method[row] === DENSE ? "reference" : null });
}

function runsTable() {
  const t = RUNS;
  const quartiles = (v, i) => absent(v) ? "" : `${number(v, 2)} (${number(t.speedup_low[i], 2)}\u2013${number(t.speedup_high[i], 2)})`;
  const columns = [
    methodColumn(t),
    SEVERAL_MODELS && named(t, "model", "Model"),
    column(t, "seed", "Seed", String),
    SCHEDULES.length > 1 && named(t, "schedule", "Schedule"),
    column(t, "keep", "Keep", (v) => v.toFixed(2)),
    column(t, "test_top1", "Top-1 %", (v) => percent(v, 2), "Test accuracy"),
    has(t, "test_top5") && column(t, "test_top5", "Top-5 %", (v) => percent(v, 2)),
    column(t, "test_loss", "Test loss", (v) => number(v, 3)),
    column(t, "val_top1_before_finetuning", "Val before %", (v) => percent(v, 2), "Validation accuracy after pruning, before fine-tuning"),
    column(t, "val_top1", "Val %", (v) => percent(v, 2), "Validation accuracy after training"),
    column(t, "macs_kept", "MACs %", (v) => percent(v), "Multiply-accumulates kept, per cent of dense"),
    has(t, "weights_kept") && column(t, "weights_kept", "Weights %", (v) => percent(v)),
    column(t, "parameters", "Parameters", whole),
    column(t, "latency_ms", "Latency, ms", (v) => number(v, 2), "Median of one batch"),
    column(t, "speedup", "Speedup", quartiles, "Median of paired timings against the dense network, with quartiles"),
    column(t, "epochs", "Epochs", (v) => absent(v) ? "" : String(v)),
    column(t, "seconds", "Training", duration),
    has(t, "update") && named(t, "update", "Update"),
    has(t, "missing") && { ...named(t, "missing", "Missing because"), long: true },
    has(t, "warning_text") && { ...named(t, "warning_text", "Warnings"), long: true },
  ].filter(Boolean);
  return makeTable({ id: "runs-table", label: "All networks", columns, count: t.method.length });
}

function tablesSection() {
  const means = summaryTable(), all = runsTable();
  redraws.push(() => { means.show(); all.show(); });
  const left = DATA.nets - RUNS.method.length;
  return section("results", "Results", "Means over seeds, with the sample standard deviation where there are several. Click a heading to sort.",
    means.element, h("h3", {}, "All networks"),
    h("p", { class: "about" }, "One row per network and seed: runs.csv." + (left > 0 ? ` ${plural(left, "network")} of the sweep are left out here; the file has them.` : "")),
    all.element,
    h("h3", {}, "Notes"), h("ul", { class: "notes" }, [...DATA.notes, ...DATA.speedup_notes].map((note) => h("li", {}, note.replaceAll("`", "")))));
}
