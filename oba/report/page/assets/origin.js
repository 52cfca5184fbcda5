// Where the results come from.

/** Write plain values as YAML, near enough to read. */
function yaml(value, indent = "") {
  if (value === null) return " null";
  if (typeof value !== "object") return ` ${typeof value === "string" && (value === "" || /[:#{}[\],&*?|<>=!%@`"'\n]|^\s|\s$/.test(value)) ? JSON.stringify(value) : value}`;
  const entries = Array.isArray(value) ? value.map((inner) => ["-", inner]) : Object.entries(value).map(([key, inner]) => [`${key}:`, inner]);
  if (!entries.length) return Array.isArray(value) ? " []" : " {}";
  const flat = Array.isArray(value) && value.every((inner) => inner === null || typeof inner !== "object");
  if (flat) return ` [${value.map((inner) => yaml(inner).trim()).join(", ")}]`;
  return "\n" + entries.map(([key, inner]) => {
    const text = yaml(inner, `${indent}  `);
    return key === "-" && text.startsWith("\n") ? `${indent}- ${text.trimStart()}` : indent + key + text;
  }).join("\n");
}

function originSection() {
  const { commits, facts, time } = DATA.origin;
  const several = (found) => found.map(({ text, jobs }) => found.length > 1 ? `${text} (${plural(jobs, "job")})` : text).join("; ");
  const date = (text) => text ? text.replace("T", " ").replace("+00:00", " UTC") : "";
  const fact = (label, text) => text ? h("div", {}, h("dt", {}, label), h("dd", {}, text)) : "";
  return section("origin", "Provenance", "What the records of the finished jobs say.",
    h("dl", { class: "facts" },
      fact("Commit", commits.length ? several(commits) : "not from a checkout"),
      Object.entries(facts).map(([label, found]) => fact(label, several(found))),
      fact("First job ended", date(time.first)), fact("Last job ended", date(time.last)),
      fact("Data digest", DATA.data.digest)),
    h("details", { style: "margin-top:26px" }, h("summary", {}, "Settings of the study"), h("pre", { id: "settings" }, yaml(DATA.settings).trim())));
}
