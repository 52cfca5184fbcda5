// Accuracy against what is kept: the chart that most readers want.

const AXES = {
  macs: { title: "MACs kept (%)", short: "MACs", value: (row) => SUMMARY.macs_kept_percent[row] },
  weights: { title: "Weights kept (%)", short: "Weights", value: (row) => SUMMARY.weights_kept_percent[row] ?? 100 },
  parameters: { title: "Parameters kept (%)", short: "Parameters", value: (row) => SUMMARY.parameters_kept_percent[row] },
  latency: { title: "Latency (% of the dense network)", short: "Latency", value: (row) => 100 / SUMMARY.speedup[row],
    range: (row) => [100 / SUMMARY.speedup_high[row], 100 / SUMMARY.speedup_low[row]] },
};
const LOG_BELOW = 15, MARKER = 10, HIDES = 7, BESIDE = 11, WIDEST = 66, LONGEST = 24;

/** Set points that hide each other side by side; as oba/report/dodge.py does on paper. */
function dodged(points) {
  let groups = [];
  points.forEach(([x, y], index) => {
    const near = groups.filter((group) => group.some((i) => Math.abs(points[i][0] - x) < HIDES && Math.abs(points[i][1] - y) < HIDES));
    groups = [...groups.filter((group) => !near.includes(group)), [...near.flat().sort((a, b) => a - b), index]];
  });
  const placed = points.map(([x]) => x);
  for (const group of groups.filter((g) => g.length > 1)) {
    const middle = mean(group.map((index) => points[index][0]));
    const step = Math.min(BESIDE, WIDEST / (group.length - 1));
    group.forEach((index, rank) => { placed[index] = middle + (rank - (group.length - 1) / 2) * step; });
  }
  return placed;
}

/** Move labels apart, from the top down, inside of a height. */
function apart(places, distance, low, high) {
  const order = indices(places.length).sort((a, b) => places[a] - places[b]);
  const found = [...places];
  order.forEach((index, rank) => {
    found[index] = Math.max(places[index], rank ? found[order[rank - 1]] + distance : low);
  });
  [...order].reverse().forEach((index, rank, all) => {
    found[index] = Math.min(found[index], rank ? found[all[rank - 1]] - distance : high);
  });
  return found;
}

function tradeoffSection() {
  const t = SUMMARY, rows = indices(t.method.length);
  const granularities = distinct(t.granularity.filter(Boolean));
  const state = { model: t.model[0], schedule: SCHEDULES[0] || "", granularity: granularities[0] || "structures" };
  const usual = () => state.granularity === "weights" ? "weights" : "macs";
  state.axis = usual();
  const chart = h("div", { class: "chart", id: "tradeoff-chart", role: "img", "aria-label": "Test accuracy against what is kept; the table below has the numbers" });
  const note = h("p", { class: "about" });
  const axes = h("span");

  function selected() {
    return rows.filter((row) => t.model[row] === state.model && ["", state.schedule].includes(t.schedule[row])
      && ["", state.granularity].includes(t.granularity[row]));
  }

  function place(row) {
    const kept = ["macs", "weights"].includes(state.axis);
    return t.method[row] === LONGER && kept ? t.keep[row] * 100 : AXES[state.axis].value(row);
  }

  function draw() {
    const all = selected(), dense = all.find((row) => t.method[row] === DENSE);
    const seen = all.filter((row) => row === dense || !hidden.has(t.method[row]));
    const longest = Math.max(...seen.map((row) => shortened(t.method[row]).length));
    const margin = { l: narrow() ? 46 : 62, r: narrow() ? 14 : 70 + 7.6 * longest, t: 14, b: 54 };
    const height = narrow() ? 340 : 440, width = chart.clientWidth || 800;
    const xs = all.map(place).filter(Number.isFinite);
    const smallest = Math.min(...xs), largest = Math.max(100, ...xs), logarithmic = smallest < LOG_BELOW;
    const scale = (x) => logarithmic ? Math.log10(x) : x;
    const pad = (scale(largest) - scale(smallest) || 1) * 0.04;
    const xRange = [scale(largest) + pad, scale(smallest) - pad];
    const tops = all.filter((row) => row === dense || seen.includes(row));
    const highs = tops.map((row) => t.top1_percent[row] + (t.top1_percent_std[row] || 0));
    const lows = tops.map((row) => t.top1_percent[row] - (t.top1_percent_std[row] || 0));
    const yPad = Math.max(Math.max(...highs) - Math.min(...lows), 0.5) * 0.06;
    const yRange = [Math.min(...lows) - yPad, Math.max(...highs) + yPad];
    const inner = [width - margin.l - margin.r, height - margin.t - margin.b];
    const toPixels = (row) => [(scale(place(row)) - xRange[0]) / (xRange[1] - xRange[0]) * inner[0],
      (yRange[1] - t.top1_percent[row]) / (yRange[1] - yRange[0]) * inner[1]];
    const moved = dodged(seen.map(toPixels));
    const drawnAt = new Map(seen.map((row, index) => {
      const x = moved[index] / inner[0] * (xRange[1] - xRange[0]) + xRange[0];
      return [row, row === dense ? place(row) : logarithmic ? 10 ** x : x];
    }));

    const traces = [], labels = [];
    const methods = distinct(seen.filter((row) => row !== dense).map((row) => t.method[row]));
    for (const method of methods) {
      for (const variant of [FINETUNED, SCRATCH]) {
        const chain = seen.filter((row) => t.method[row] === method && t.variant[row] === variant)
          .sort((a, b) => t.keep[b] - t.keep[a]);
        if (chain.length) traces.push(trace(method, variant, chain, dense, drawnAt));
        if (chain.length && variant === FINETUNED) labels.push(chain[chain.length - 1]);
      }
    }
    traces.push({ x: [place(dense)], y: [t.top1_percent[dense]], mode: "markers", name: DENSE,
      marker: { color: color(DENSE), size: MARKER, line: { color: themed("paper"), width: 1 } },
      text: [hover(dense)], hovertemplate: "%{text}<extra></extra>" });

    const deviation = t.top1_percent_std[dense];
    const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: t.top1_percent[dense], y1: t.top1_percent[dense],
      line: { color: themed("ink"), width: 1, dash: "dash" }, layer: "below" }];
    if (deviation) {
      shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: t.top1_percent[dense] - deviation,
        y1: t.top1_percent[dense] + deviation, fillcolor: themed("rule"), opacity: 0.45, line: { width: 0 }, layer: "below" });
    }
    const levels = distinct(all.map((row) => t.keep[row] * 100)).sort((a, b) => b - a);
    const ticks = ["macs", "weights"].includes(state.axis) || logarithmic ? tickLabels(levels, scale, xRange, inner[0]) : {};
    plot(chart, traces, {
      height, margin, shapes,
      annotations: narrow() ? [] : endLabels([dense, ...labels], toPixels, inner, drawnAt),
      xaxis: axis({ title: AXES[state.axis].title, range: xRange, type: logarithmic ? "log" : "linear", showgrid: false,
        showline: true, ...ticks }),
      yaxis: axis({ title: narrow() ? "" : "Test accuracy (%)", range: yRange }),
    });
    const seeds = Math.max(...t.seeds);
    note.textContent = (seeds > 1 ? "Means over seeds, bars ± sample standard deviation. " : "One seed, so no spread. ")
      + (narrow() ? "Vertical: test accuracy in per cent. " : "") + "The dashed line is the dense network. Markers that coincide stand side by side."
      + (state.axis === "latency" ? " Horizontal bars: quartiles of the paired timings." : "")
      + (all.some((row) => t.variant[row] === SCRATCH) ? " Hollow: the same architecture trained from new weights." : "")
      + (all.some((row) => t.method[row] === LONGER) ? " dense-longer: nothing removed, the same extra epochs; drawn at the level whose epochs it shares." : "");
  }

  function tickLabels(levels, scale, range, pixels) {
    const shown = [];
    const at = (level) => (scale(level) - range[0]) / (range[1] - range[0]) * pixels;
    for (const level of levels) if (!shown.length || at(level) - at(shown[shown.length - 1]) > 34) shown.push(level);
    return { tickvals: shown, ticktext: shown.map((level) => String(Number(level.toFixed(2)))) };
  }

  function endLabels(ends, toPixels, inner, drawnAt) {
    const wanted = ends.map((row) => toPixels(row)[1]);
    const places = apart(wanted, 17, 6, inner[1] - 6);
    return ends.map((row, index) => ({
      xref: "paper", yref: "paper", x: 1, xanchor: "left", xshift: 16, y: 1 - places[index] / inner[1], yanchor: "middle",
      text: `${plain(shortened(t.method[row]))} ${number(t.top1_percent[row], 1)}`, showarrow: false, align: "left",
      font: { color: color(t.method[row]), size: 12.5 },
    }));
  }

  const shortened = (name) => name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}\u2026` : name;

  function trace(method, variant, chain, dense, drawnAt) {
    const scratch = variant === SCRATCH, control = method === LONGER;
    const from = scratch ? [] : [dense], points = [...from, ...chain];
    const error = chain.some((row) => !absent(t.top1_percent_std[row]));
    const latency = AXES[state.axis].range;
    return {
      x: points.map((row) => drawnAt.get(row)), y: points.map((row) => t.top1_percent[row]), name: plain(method),
      mode: scratch ? "markers" : "lines+markers", connectgaps: false, cliponaxis: false,
      line: { color: color(method), width: 2, dash: control ? "dot" : "solid" },
      marker: { color: color(method), size: sized(method, MARKER), opacity: points.map((row) => row === dense ? 0 : 1),
        symbol: symbol(method) + (scratch ? "-open" : ""), line: { color: scratch ? color(method) : themed("paper"), width: scratch ? 1.6 : 1 } },
      error_y: { type: "data", array: points.map((row) => row === dense ? 0 : t.top1_percent_std[row] || 0), visible: error,
        thickness: 1.1, width: 3, color: color(method) },
      error_x: latency && !control ? { type: "data", symmetric: false, thickness: 1, width: 0, color: `${color(method)}55`,
        array: points.map((row) => row === dense ? 0 : latency(row)[1] - AXES.latency.value(row)),
        arrayminus: points.map((row) => row === dense ? 0 : AXES.latency.value(row) - latency(row)[0]) } : {},
      text: points.map(hover), hovertemplate: "%{text}<extra></extra>",
    };
  }

  function hover(row) {
    const lines = [`<b>${plain(netName(t, row))}</b>`, `test accuracy ${spread(t.top1_percent[row], t.top1_percent_std[row], 2)} %`];
    if (!absent(t.drop_points[row])) lines.push(`below dense by ${spread(t.drop_points[row], t.drop_points_std[row], 2)} points`);
    if (!absent(t.versus_points[row])) lines.push(`against ${plain(t.versus[row])} ${spread(t.versus_points[row], t.versus_points_std[row], 2, true)} points`);
    lines.push(`MACs ${number(t.macs_kept_percent[row], 1)} % (${whole(t.macs[row])})`);
    if (!absent(t.weights_kept_percent[row])) lines.push(`weights ${number(t.weights_kept_percent[row], 1)} %`);
    lines.push(`parameters ${number(t.parameters_kept_percent[row], 1)} % (${whole(t.parameters[row])})`);
    lines.push(`latency ${number(t.latency_ms[row], 2)} ms, speedup ${number(t.speedup[row], 2)} (${number(t.speedup_low[row], 2)}\u2013${number(t.speedup_high[row], 2)})`);
    lines.push(plural(t.seeds[row], "seed"));
    return lines.join("<br>");
  }

  function showAxes() {
    const names = Object.keys(AXES).filter((name) => name !== "weights" || has(t, "weights_kept_percent"));
    axes.replaceChildren(switcher("Horizontal axis", names.map((name) => [name, AXES[name].short]),
      (value) => { state.axis = value; draw(); }, state.axis));
  }

  const change = (key) => (value) => { state[key] = value; draw(); };
  const granularity = choice("Removed", granularities, (value) => { state.granularity = value; state.axis = usual(); showAxes(); draw(); });
  showAxes();
  const found = section("tradeoff", "Accuracy against cost", "", note,
    h("div", { class: "controls" }, axes, choice("Model", distinct(t.model), change("model")).element,
      choice("Schedule", SCHEDULES, change("schedule")).element, granularity.element),
    legend(), chart);
  return [found, () => drawn(draw)];
}

/** The legend switches methods on and off everywhere on the page. */
function legend() {
  const box = h("div", { class: "legend", id: "legend", role: "group", "aria-label": "Methods" });
  const names = DATA.methods.map((method) => method.name).filter((name) => name !== DENSE && RUNS.method.includes(name));
  function show() {
    const focused = box.contains(document.activeElement) ? document.activeElement.textContent : null;
    const every = hidden.size === 0;
    box.replaceChildren(...names.map((name) => h("button", {
      type: "button", "aria-pressed": String(!hidden.has(name)), title: "Click to hide or show; double-click for this one alone",
      onclick: () => { if (hidden.has(name)) hidden.delete(name); else hidden.add(name); redraw(); },
      ondblclick: () => { hidden.clear(); names.filter((other) => other !== name).forEach((other) => hidden.add(other)); redraw(); },
    }, swatch(name), name)), names.length > 1 ? h("button", { type: "button", class: "quiet", onclick: () => {
      if (every) names.forEach((name) => hidden.add(name)); else hidden.clear();
      redraw();
    } }, every ? "Hide all" : "Show all") : "");
    if (focused) [...box.children].find((button) => button.textContent === focused)?.focus();
  }
  drawn(show);
  return box;
}
