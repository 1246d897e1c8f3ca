// The table of runs. Served after base.js in one module. Python: shelf.py.

const accuracy = (value) => (value == null ? "–" : percent(value));

const COLUMNS = [
  ["Run", (row) => row.name || row.title],
  ["State", (row) => row.state],
  ["Optimizer", (row) => `${row.optimizer} ${plain(row.lr)}`],
  ["Workers", (row) => `${row.strategy} × ${row.world}`],
  ["Step", (row) => (row.steps ? `${grouped(row.step ?? 0)} / ${grouped(row.steps)}` : grouped(row.step ?? 0))],
  ["Loss", (row) => (row.loss == null ? "–" : plain(row.loss))],
  ["Validation", (row) => accuracy(row.val_accuracy)],
  ["Test", (row) => accuracy(row.test_accuracy)],
  ["Time", (row) => duration(row.seconds)],
];

class Shelf {
  constructor(model, root) {
    this.model = model;
    this.rows = new Map();
    this.body = h("tbody");
    this.count = h("span", { class: "ll-note" });
    this.empty = h("p", { class: "ll-empty" }, "No runs yet: the first launch appears here.");
    this.clear = h("button", { class: "ll-chip", type: "button", onclick: () => this.select([]) }, "Clear overlay");
    const names = COLUMNS.map(([name]) => h("th", { scope: "col" }, name));
    names.unshift(h("th", { scope: "col" }, h("span", { class: "ll-unseen" }, "Overlay")));
    const caption = h("caption", { class: "ll-unseen" }, "Runs, newest first");
    const table = h("table", { class: "ll-table" }, caption, h("thead", {}, h("tr", {}, ...names)), this.body);
    this.scroll = h("div", { class: "ll-scroll ll-shelf-rows" }, table);
    root.append(h("header", { class: "ll-head" }, h("h4", {}, "Runs ", this.count), this.clear), this.empty, this.scroll);
    const all = model.get("rows");
    this.take({ rows: all, order: all.map((row) => row.id) });
    model.on("change:rows", () => this.take({ rows: model.get("rows"), order: model.get("rows").map((row) => row.id) }));
    model.on("change:selected", () => this.tick());
    model.on("msg:custom", (message) => this.take(message));
  }

  take({ rows, order }) {
    for (const row of rows) this.show(row);
    const wanted = new Set(order);
    for (const [id, { element }] of this.rows)
      if (!wanted.has(id)) {
        element.remove();
        this.rows.delete(id);
      }
    order.forEach((id, i) => {
      const element = this.rows.get(id)?.element;
      if (element && this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] ?? null);
    });
    this.tick();
  }

  show(row) {
    let known = this.rows.get(row.id);
    if (!known) this.rows.set(row.id, (known = this.build(row)));
    COLUMNS.forEach(([name, text], i) => {
      const cell = known.cells[i];
      const value = text(row);
      if (name === "Run") cell.replaceChildren(value, h("small", {}, row.id));
      else if (name !== "State") setText(cell, value);
      else if (cell.textContent !== value) cell.replaceChildren(badge(value));
    });
  }

  build(row) {
    const box = h("input", { type: "checkbox", "aria-label": `Overlay run ${row.name || row.id}` });
    box.addEventListener("change", () => {
      const selected = this.model.get("selected").filter((id) => id !== row.id);
      this.select(box.checked ? [...selected, row.id] : selected);
    });
    const cells = COLUMNS.map(([name]) => (name === "Run" ? h("th", { scope: "row" }) : h("td")));
    return { box, cells, element: h("tr", { "data-id": row.id }, h("td", {}, box), ...cells) };
  }

  select(selected) {
    this.model.set("selected", selected);
    this.model.save_changes();
    this.tick();
  }

  tick() {
    const selected = new Set(this.model.get("selected"));
    for (const [id, { box }] of this.rows) box.checked = selected.has(id);
    const hint = selected.size ? `${selected.size} overlaid below` : "tick any to overlay them";
    setText(this.count, this.rows.size ? `${grouped(this.rows.size)}, ${hint}` : "");
    this.clear.hidden = !selected.size;
    this.empty.hidden = this.rows.size > 0;
    this.scroll.hidden = !this.rows.size;
  }
}

export default {
  render({ model, el }) {
    const root = h("section", { class: "ll-root ll-shelf", "aria-label": "Shelf of runs" });
    el.append(root);
    new Shelf(model, root);
    requestAnimationFrame(() => readTheme(root)); // it is not in the page yet
    return onThemeChange(() => readTheme(root));
  },
};
