// A table that sorts and filters thousands of rows; a page of them is in the document at a time.

const PER_PAGE = 50;

/**
 * Make a table.
 *
 * columns: {label, title, text(row), value(row), left, pinned, long, cell(row)}, where `value` is what is sorted by and
 * `cell`, if given, makes what is shown instead of the text. rowClass(row) names the class of a row.
 */
function makeTable({ id, label, columns, count, rowClass = () => null, empty = "No rows." }) {
  const words = new Array(count);
  let shown = indices(count), sorted = null, direction = 1, page = 0, query = "";

  const body = h("tbody"), status = h("span", { class: "status", role: "status" });
  const heads = columns.map((column, place) => h("th", {
    scope: "col", title: column.title, class: [column.pinned && "pinned", column.left && "left", column.long && "long"].filter(Boolean).join(" ") || null,
  }, h("button", { type: "button", class: "sort", onclick: () => sortBy(place) }, column.label)));
  const filter = h("input", { type: "search", placeholder: "Filter, e.g. magnitude 0.20", "aria-label": `Filter ${label}`,
    oninput: () => { query = filter.value; page = 0; choose(); } });
  const before = h("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const after = h("button", { type: "button", onclick: () => turn(1) }, "Next");

  function text(row) {
    words[row] ??= columns.map((column) => column.text(row)).join(" ").toLowerCase();
    return words[row];
  }

  function sortBy(place) {
    direction = sorted === place ? -direction : columns[place].left ? 1 : -1;
    sorted = place;
    page = 0;
    heads.forEach((head, at) => {
      if (at === place) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    choose();
  }

  function choose() {
    const parts = query.toLowerCase().split(/\s+/).filter(Boolean);
    shown = indices(count).filter((row) => parts.every((part) => text(row).includes(part)));
    if (sorted !== null) {
      const keys = indices(count).map(columns[sorted].value || columns[sorted].text);
      const last = (key) => absent(key) || key === "";
      shown.sort((a, b) => {
        const [one, other] = [keys[a], keys[b]];
        if (last(one) || last(other)) return last(one) - last(other) || a - b;
        return (one < other ? -direction : one > other ? direction : 0) || a - b;
      });
    }
    show();
  }

  function turn(by) {
    page += by;
    show();
    box.scrollTop = 0;
  }

  function show() {
    const first = page * PER_PAGE, rows = shown.slice(first, first + PER_PAGE);
    body.replaceChildren(...rows.map((row) => h("tr", { class: rowClass(row) }, columns.map((column) => h("td", {
      class: [column.pinned && "pinned", column.left && "left", column.long && "long"].filter(Boolean).join(" ") || null,
      title: column.pinned || column.long ? column.text(row) : null,
    }, column.cell ? column.cell(row) : column.text(row))))));
    if (!rows.length) body.append(h("tr", {}, h("td", { class: "left", colspan: columns.length }, empty)));
    const of = shown.length === count ? plural(count, "row") : `${whole(shown.length)} of ${plural(count, "row")}`;
    const range = shown.length > PER_PAGE ? `, ${whole(first + 1)} to ${whole(first + rows.length)} shown` : "";
    status.textContent = of + range;
    before.disabled = page === 0;
    after.disabled = first + PER_PAGE >= shown.length;
    before.hidden = after.hidden = shown.length <= PER_PAGE;
  }

  const box = h("div", { class: "box", tabindex: "0", role: "region", "aria-label": label },
    h("table", { id }, h("thead", {}, h("tr", {}, heads)), body));
  show();
  return {
    element: h("div", {}, h("div", { class: "controls" }, h("label", { class: "wide" }, filter), status, before, after), box),
    show,
  };
}
