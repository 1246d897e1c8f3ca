// The table of runs: sorted, searched, ticked for the overlay, and edited. Served after base.js and chooser.js in one module.
// Python: shelf.py.

const SHOWN = 100; // rows at most until more are asked for, so that a long shelf is as quick as a short one
const none = (value, format) => (value == null ? "–" : format(value));
const nameOf = (row) => row.name || row.title;

// Name of a column, what it shows, what it is sorted by (where that is not the same), a hint, and whether more is better.
const columnsOf = (metrics, shown) => [
  ["Run", nameOf, (row) => nameOf(row).toLowerCase()],
  ["State", (row) => row.state],
  ["Optimizer", (row) => `${row.optimizer} ${plain(row.lr)}`, (row) => row.lr, "Optimizer, and the learning rate it has now"],
  ["Workers", (row) => `${row.strategy} × ${row.world}`],
  ["Step", (row) => grouped(row.step ?? 0) + (row.steps ? ` / ${grouped(row.steps)}` : ""), (row) => row.step ?? 0],
  ...listedOf(metrics, "", "val", "test")
    .filter(({ split, first, metric }) => first === !split && shown.has(metric))
    .map((figure) => {
      const value = (row) => row[figure.key];
      const hint = figure.split ? undefined : "Of the newest batch";
      return [headOf(figure), (row) => none(value(row), formatOf(figure)), value, hint, figure.higher];
    }),
  ["Time", (row) => duration(row.seconds), (row) => row.seconds, "In which its processes worked"],
  ["Begun", (row) => begun(row.created), (row) => row.created],
];
const UP_FIRST = ["Run", "State", "Optimizer", "Workers"]; // and what is better the lower; others begin with the highest

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const begun = (created) => {
  const at = new Date(1000 * created);
  return new Date().toDateString() === at.toDateString() ? hour.format(at) : `${day.format(at)}, ${hour.format(at)}`;
};

const matches = (row, words) => {
  const text = [row.name, row.title, row.id, row.state, row.optimizer, row.strategy, row.note, ...row.tags].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
};

// Values that are missing come last, whatever the direction.
const sorted = (rows, [, text, value = text], direction) => {
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return rows
    .map((row) => [value(row), row])
    .sort(([a, r], [b, s]) => (a == null) - (b == null) || direction * order(a, b) || order(s.created, r.created))
    .map(([, row]) => row);
};

class Shelf {
  constructor(model, root) {
    Object.assign(this, { model, root, known: new Map(), elements: new Map(), most: SHOWN });
    this.columns = columnsOf(model.get("metrics"), this.shown);
    this.order = { column: this.columns.length - 1, direction: -1 };
    this.build();
    this.take({ rows: model.get("rows"), order: model.get("rows").map((row) => row.id) });
    this.listeners = {
      "change:rows": () => this.take({ rows: model.get("rows"), order: model.get("rows").map((row) => row.id) }),
      "change:selected": () => this.tick(),
      "change:metrics change:columns": () => this.recolumn(),
      "msg:custom": (message) => this.receive(message),
    };
    for (const [event, listener] of Object.entries(this.listeners)) model.on(event, listener);
    const ask = () => model.send({ action: "show" });
    this.stopWake = onWake(ask);
    ask(); // rows may have come before anyone listened
  }

  destroy() {
    for (const [event, listener] of Object.entries(this.listeners)) this.model.off(event, listener);
    cancelAnimationFrame(this.frame);
    this.stopWake();
  }

  build() {
    this.body = h("tbody");
    this.count = h("span", { class: "ll-note", role: "status" });
    this.empty = h("p", { class: "ll-empty" });
    this.said = h("div", { class: "ll-refusal", role: "alert" });
    this.search = h("input", {
      class: "ll-input ll-search", type: "search", placeholder: "Search", title: "Words of a name, data set, model, state, tag or note",
      "aria-label": "Search runs", oninput: () => this.draw(),
    });
    const chip = (label, onclick, more = {}) => h("button", { class: "ll-chip", type: "button", onclick, ...more }, label);
    this.archived = chip("Archived", () => {
      this.archived.setAttribute("aria-pressed", this.archived.getAttribute("aria-pressed") !== "true");
      this.draw();
    }, { "aria-pressed": "false", title: "Show the archived runs instead" });
    this.more = chip("", () => {
      this.most += 5 * SHOWN;
      this.draw();
    });
    this.ticked = h("span", { class: "ll-ticked", role: "group", "aria-label": "Ticked runs" });
    const tools = h("div", { class: "ll-options" }, this.search, this.archived);
    this.head = h("thead");
    this.buildHeads();
    const caption = h("caption", { class: "ll-unseen" }, "Runs");
    const table = h("table", { class: "ll-table" }, caption, this.head, this.body);
    this.scroll = h("div", { class: "ll-scroll ll-shelf-rows" }, table);
    const title = h("h4", {}, "Runs ", this.count);
    this.chooser = new Chooser("Columns", (names) => this.save("columns", names));
    const head = h("header", { class: "ll-head" }, title, tools);
    this.root.append(head, this.chooser.element, this.ticked, this.said, this.empty, this.scroll, this.more);
  }

  buildHeads() {
    this.heads = this.columns.map(([name, , , title], i) => {
      const sort = h("button", { class: "ll-sort", type: "button", title, onclick: () => this.sort(i) }, name);
      return h("th", { scope: "col" }, sort);
    });
    const unseen = (text) => h("th", { scope: "col" }, h("span", { class: "ll-unseen" }, text));
    this.head.replaceChildren(h("tr", {}, unseen("Overlay"), ...this.heads, unseen("Edit")));
  }

  // Names of the metrics that have a column: those that someone chose, or the first ones.
  get shown() {
    return new Set(this.model.get("columns") ?? this.model.get("metrics").shown);
  }

  // Others are chosen, or a run has a metric that none had before: the order of rows stays, if its column does.
  recolumn() {
    const by = this.columns[this.order.column][0];
    this.columns = columnsOf(this.model.get("metrics"), this.shown);
    const column = this.columns.findIndex(([name]) => name === by);
    this.order = column < 0 ? { column: this.columns.length - 1, direction: -1 } : { ...this.order, column };
    this.buildHeads();
    this.show([]);
    this.draw();
  }

  receive(message) {
    if ("refused" in message) return setText(this.said, message.refused);
    setText(this.said, "");
    this.take(message);
  }

  take({ rows, order }) {
    for (const row of rows) this.known.set(row.id, row);
    const wanted = new Set(order);
    for (const id of this.known.keys()) if (!wanted.has(id)) this.known.delete(id);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  sort(column) {
    const [name, , , , higher] = this.columns[column];
    const first = UP_FIRST.includes(name) || higher === false ? 1 : -1;
    const direction = this.order.column === column ? -this.order.direction : first;
    this.order = { column, direction };
    this.draw();
  }

  get selected() {
    return this.model.get("selected");
  }

  draw() {
    const archived = this.archived.getAttribute("aria-pressed") === "true";
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...this.known.values()];
    const here = all.filter((row) => Boolean(row.archived) === archived);
    const found = sorted(here.filter((row) => matches(row, words)), this.columns[this.order.column], this.order.direction);
    const shown = found.slice(0, this.most);
    this.show(shown);
    this.heads.forEach((head, i) => {
      const way = i === this.order.column ? (this.order.direction > 0 ? "ascending" : "descending") : null;
      if (way) head.setAttribute("aria-sort", way);
      else head.removeAttribute("aria-sort");
    });
    const total = grouped(here.length) + (archived ? " archived" : "");
    setText(this.count, here.length ? (words.length ? `${grouped(found.length)} of ${total}` : total) : "");
    setText(this.empty, !all.length ? "No runs yet: the first launch appears here."
      : words.length ? "No run matches." : archived ? "No run is archived." : "All runs are archived.");
    this.empty.hidden = found.length > 0;
    this.scroll.hidden = !found.length;
    setText(this.more, `Show ${grouped(Math.min(5 * SHOWN, found.length - shown.length))} more`);
    this.more.hidden = shown.length === found.length;
    this.archived.hidden = !archived && here.length === all.length;
    this.offer(all);
    this.tick();
  }

  // Chips for the metrics that any run has a figure of, and for those that have a column.
  offer(rows) {
    const { shown } = this, { drawn, listed } = this.model.get("metrics");
    const figured = new Set(listed.filter(({ key }) => rows.some((row) => row[key] != null)).map(({ metric }) => metric));
    this.chooser.update(drawn.filter(({ name }) => shown.has(name) || figured.has(name)), shown);
  }

  show(rows) {
    const kept = new Set(rows.map((row) => row.id));
    for (const [id, { element, form }] of this.elements)
      if (!kept.has(id)) {
        element.remove();
        form?.remove();
        this.elements.delete(id);
      }
    let at = this.body.firstChild;
    for (const row of rows) {
      let known = this.elements.get(row.id);
      if (!known) this.elements.set(row.id, (known = this.buildRow(row.id)));
      this.fill(known, row);
      for (const element of [known.element, known.form].filter(Boolean))
        if (element === at) at = at.nextSibling;
        else this.body.insertBefore(element, at);
    }
  }

  fill(known, row) {
    if (known.row === row) return;
    known.row = row;
    this.columns.forEach(([name, text], i) => {
      const cell = known.cells[i], value = text(row);
      if (name === "Run") cell.replaceChildren(...this.nameCell(row));
      else if (name !== "State") setText(cell, value);
      else if (cell.textContent !== value) cell.replaceChildren(badge(value));
      cell.toggleAttribute("data-none", value === "–");
    });
    known.box.setAttribute("aria-label", `Overlay run ${nameOf(row)}`);
    known.edit.setAttribute("aria-label", `Edit run ${nameOf(row)}`);
    known.element.title = row.note ?? "";
  }

  nameCell(row) {
    const tags = row.tags.map((tag) => h("i", { class: "ll-tag" }, tag));
    const ids = h("small", {}, row.name ? `${row.title} · ${row.id}` : row.id);
    const standing = row.standing && h("small", { class: "ll-standing", title: row.standing }, row.standing);
    return [h("span", { class: "ll-run" }, nameOf(row), ...tags), ids, ...(standing ? [standing] : [])];
  }

  buildRow(id) {
    const box = h("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      const others = this.selected.filter((each) => each !== id);
      this.select(box.checked ? [...others, id] : others);
    });
    const edit = h("button", { class: "ll-edit", type: "button", title: "Rename, tag, archive or delete", "aria-expanded": "false" }, "…");
    edit.addEventListener("click", () => this.toggle(id));
    const cells = this.columns.map(([name]) => (name === "Run" ? h("th", { scope: "row" }) : h("td", { "data-name": name })));
    return { box, edit, cells, element: h("tr", { "data-id": id }, h("td", {}, box), ...cells, h("td", {}, edit)) };
  }

  // Opens the form of a run below its row, or closes it.
  toggle(id) {
    const known = this.elements.get(id);
    known.edit.setAttribute("aria-expanded", !known.form);
    if (known.form) {
      known.form.remove();
      known.form = null;
      return known.edit.focus();
    }
    known.form = this.buildForm(known);
    known.element.after(known.form);
    known.form.querySelector("input").focus();
  }

  buildForm({ row }) {
    const field = (label, value, hint, maxlength) => {
      const input = h("input", { class: "ll-input", type: "text", value, placeholder: hint ?? "", maxlength });
      return [h("label", {}, label, input), input];
    };
    const [name, nameInput] = field("Name", row.name, row.title, 80);
    const [tags, tagsInput] = field("Tags", row.tags.join(", "), "separated by commas");
    const [note, noteInput] = field("Note", row.note ?? "");
    const save = (event) => {
      event?.preventDefault();
      const words = tagsInput.value.split(",").map((tag) => tag.trim()).filter(Boolean);
      this.act("describe", [row.id], { name: nameInput.value.trim(), tags: words, note: noteInput.value.trim() });
      this.toggle(row.id);
    };
    const button = (label, onclick) => h("button", { class: "ll-button", type: "button", onclick }, label);
    const archive = button(row.archived ? "Take out of the archive" : "Archive", () => {
      this.toggle(row.id);
      this.act("archive", [row.id], { archived: !row.archived });
    });
    const form = h(
      "form", { class: "ll-describe", "aria-label": `Edit run ${nameOf(row)}`, onsubmit: save },
      name, tags, note, h("span", { class: "ll-actions" }, h("button", { class: "ll-button" }, "Save"), archive, ...this.remover([row.id])),
    );
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggle(row.id);
      else if (event.key === "Enter" && event.target.tagName === "INPUT") save(event); // JupyterLab keeps it from submitting
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return h("tr", { class: "ll-form-row" }, h("td", { colspan: this.columns.length + 2 }, form));
  }

  // A button that deletes runs once it has been asked for again.
  remover(ids) {
    const many = ids.length > 1 ? `${ids.length} runs` : "it";
    const ask = h("button", { class: "ll-button", type: "button" }, ids.length > 1 ? `Delete ${many}` : "Delete");
    const sure = h("span", { class: "ll-sure", role: "alertdialog", "aria-label": `Delete ${many} for good?`, hidden: true });
    const yes = h("button", { class: "ll-button ll-danger", type: "button" }, `Delete ${many} for good`);
    const no = h("button", { class: "ll-button", type: "button" }, "Keep");
    sure.append("Curves, checkpoints and logs go with it.", yes, no);
    const turn = (asking) => {
      ask.hidden = asking;
      sure.hidden = !asking;
      (asking ? no : ask).focus();
    };
    ask.addEventListener("click", () => turn(true));
    no.addEventListener("click", () => turn(false));
    yes.addEventListener("click", () => this.act("delete", ids));
    return [ask, sure];
  }

  act(action, ids, values = {}) {
    this.model.send({ action, ids, ...values });
  }

  save(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
  }

  select(selected) {
    this.save("selected", selected);
    this.tick();
  }

  tick() {
    const selected = new Set(this.selected);
    for (const [id, { box }] of this.elements) box.checked = selected.has(id);
    const ids = this.selected.filter((id) => this.known.has(id));
    const key = JSON.stringify(ids);
    if (this.ticked.dataset.key === key) return;
    this.ticked.dataset.key = key;
    this.ticked.hidden = !ids.length;
    const chip = (label, onclick) => h("button", { class: "ll-button", type: "button", onclick }, label);
    this.ticked.replaceChildren(
      `${grouped(ids.length)} ticked, overlaid below`,
      chip("Clear overlay", () => this.select([])),
      chip("Archive", () => this.act("archive", ids, { archived: true })),
      ...this.remover(ids),
    );
  }
}

export default {
  render({ model, el }) {
    const root = h("section", { class: "ll-root ll-shelf", "aria-label": "Shelf of runs" });
    el.append(root);
    const shelf = new Shelf(model, root);
    requestAnimationFrame(() => readTheme(root)); // it is not in the page yet
    const forget = onThemeChange(() => readTheme(root));
    return () => {
      forget();
      shelf.destroy();
    };
  },
};
