// Fine-tuning: what it brought back, and the curves of all trainings.

function recoverySection() {
  const t = RUNS;
  const rows = indices(t.method.length).filter((row) => !absent(t.val_top1_before_finetuning[row]));
  if (!rows.length) return [h("div"), () => {}];
  const chart = h("div", { class: "chart", id: "recovery-chart", role: "img", "aria-label": "Validation accuracy before and after fine-tuning" });
  const levels = distinct(rows.map((row) => t.keep[row])).sort((a, b) => b - a), models = distinct(rows.map((row) => t.model[row]));
  const schedules = distinct(rows.map((row) => t.schedule[row]));
  const state = { level: levels[levels.length - 1], model: models[0], schedule: schedules[0] };

  function draw() {
    const mine = rows.filter((row) => t.keep[row] === state.level && t.model[row] === state.model && t.schedule[row] === state.schedule && !hidden.has(t.method[row]));
    const methods = distinct(mine.map((row) => t.method[row]));
    const of = (method, name) => mean(mine.filter((row) => t.method[row] === method).map((row) => t[name][row] * 100));
    const traces = methods.map((method) => {
      const [from, to] = [of(method, "val_top1_before_finetuning"), of(method, "val_top1")];
      const seeds = mine.filter((row) => t.method[row] === method).length;
      return {
        x: [from, to], y: [method, method].map(plain), mode: "lines+markers", line: { color: color(method), width: 2.5 },
        marker: { color: [themed("paper"), color(method)], size: sized(method, 11), symbol: symbol(method), line: { color: color(method), width: 2 } },
        hovertemplate: `<b>${plain(method)}</b><br>before ${number(from, 2)} %<br>after ${number(to, 2)} %<br>${plural(seeds, "seed")}<extra></extra>`,
      };
    });
    const dense = indices(t.method.length).filter((row) => t.method[row] === DENSE && t.model[row] === state.model && !absent(t.val_top1[row]));
    const reference = mean(dense.map((row) => t.val_top1[row] * 100));
    const ends = [...traces.flatMap((trace) => trace.x), reference].filter((value) => !absent(value));
    const room = (Math.max(...ends) - Math.min(...ends) || 1) * 0.04;
    plot(chart, traces, {
      height: 96 + 30 * Math.max(methods.length, 2), margin: { l: 20, r: 16, t: 8, b: 50 },
      shapes: absent(reference) ? [] : [{ type: "line", yref: "paper", x0: reference, x1: reference, y0: 0, y1: 1, line: { color: themed("ink"), width: 1, dash: "dash" }, layer: "below" }],
      xaxis: axis({ title: "Validation accuracy (%)", range: [Math.min(...ends) - room, Math.max(...ends) + room] }), yaxis: axis({ autorange: "reversed", type: "category", ticks: "", tickfont: { size: narrow() ? 10.5 : 12, color: themed("ink") } }),
    });
  }

  const set = (key, read = String) => (value) => { state[key] = read(value); draw(); };
  return [h("div", {}, h("h3", {}, "Before and after fine-tuning"),
    h("p", { class: "about" }, "Hollow: after pruning; filled: after fine-tuning. The dashed line is the dense network. Means over seeds."),
    h("div", { class: "controls" }, choice("Keep", levels.map((level) => [level, level.toFixed(2)]), set("level", Number), state.level).element,
      choice("Model", models, set("model")).element, choice("Schedule", schedules, set("schedule")).element), chart), () => drawn(draw)];
}

function curvesSection() {
  const { curves, left_out: leftOut, thinned } = DATA.trainings;
  if (!curves.length) return [h("div"), () => {}];
  const accuracy = h("div", { class: "chart", id: "accuracy-chart", role: "img", "aria-label": "Validation accuracy by epoch" });
  const loss = h("div", { class: "chart", id: "loss-chart", role: "img", "aria-label": "Training loss by epoch" });
  const phases = new Map();
  curves.forEach((curve) => {
    const row = curve.net, variant = RUNS.variant[row];
    const words = variant === DENSE ? ["dense training"] : [variant === SCRATCH ? "from new weights" : "fine-tuning", `keep ${RUNS.keep[row].toFixed(2)}`];
    if (SCHEDULES.length > 1 && RUNS.schedule[row]) words.push(RUNS.schedule[row]);
    if (SEVERAL_MODELS) words.unshift(RUNS.model[row]);
    const key = words.join(", ");
    phases.set(key, [...(phases.get(key) || []), curve]);
  });
  const names = [...phases.keys()];
  let phase = names.find((name) => name.includes("fine-tuning")) || names[0];

  function draw() {
    const shown = phases.get(phase).filter((curve) => !hidden.has(RUNS.method[curve.net]));
    const traces = (quantity, unit) => {
      const found = [];
      for (const method of distinct(shown.map((curve) => RUNS.method[curve.net]))) {
        const mine = shown.filter((curve) => RUNS.method[curve.net] === method);
        const { epoch: epochs } = mine.reduce((a, b) => b.epoch.length > a.epoch.length ? b : a);
        const middle = epochs.map((epoch, at) => mean(mine.filter((c) => c.epoch[at] === epoch).map((c) => c[quantity][at])));
        if (mine.length > 1 && mine.length <= 8) {
          mine.forEach((curve) => found.push({ x: curve.epoch, y: curve[quantity], mode: "lines", line: { color: color(method), width: 1 }, opacity: 0.3,
            hoverinfo: "skip" }));
        }
        found.push({ x: epochs, y: middle, name: plain(method), mode: "lines+markers", line: { color: color(method), width: 2 },
          marker: { symbol: symbol(method), size: sized(method, 6), maxdisplayed: 8, color: color(method) },
          hovertemplate: `<b>${plain(method)}</b><br>epoch %{x}: %{y:.2f}${unit}<br>${plural(mine.length, "seed")}<extra></extra>` });
      }
      return found;
    };
    const longest = Math.max(...shown.map((curve) => curve.epoch[curve.epoch.length - 1]));
    const layout = (title, more = {}) => ({ height: 300, margin: { l: 56, r: 12, t: 8, b: 48 },
      xaxis: axis({ title: "Epoch", showgrid: false, showline: true, tickformat: "d",
        ...(longest <= 12 ? { dtick: 1 } : {}) }), yaxis: axis({ title, ...more }) });
    const losses = shown.flatMap((curve) => curve.train_loss);
    const logarithmic = Math.min(...losses) > 0 && Math.max(...losses) / Math.min(...losses) >= 8;
    plot(accuracy, traces("val_top1", " %"), layout("Validation accuracy (%)"));
    plot(loss, traces("train_loss", ""), layout("Training loss", logarithmic ? { type: "log", dtick: Math.max(...losses) / Math.min(...losses) > 300 ? 1 : "D2" } : {}));
  }

  return [h("div", {}, h("h3", {}, "Training curves"),
    h("p", { class: "about" }, "Means over seeds; thin lines are single seeds."
      + (thinned ? " Long trainings are drawn at 120 of their epochs." : "")
      + (leftOut ? ` ${plural(leftOut, "training")} are left out to keep this page small; history.csv has each.` : "")),
    h("div", { class: "controls" }, choice("Training", names, (value) => { phase = value; draw(); }, phase).element),
    h("div", { class: "pair" }, accuracy, loss)), () => drawn(draw)];
}

function trainingSection() {
  const [recovery, drawRecovery] = recoverySection(), [curves, drawCurves] = curvesSection();
  if (!DATA.trainings.curves.length && !recovery.children.length) return [null, () => {}];
  return [section("training", "Training", "", recovery, curves), () => { drawRecovery(); drawCurves(); }];
}
