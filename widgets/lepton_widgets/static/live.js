// The live view of runs: head with controls, legend, two charts, table of ranks, card of a failure.
// Served after base.js, chart.js and store.js in one module. Python: live.py.

const icon = (path) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = `<path d="${path}"/>`;
  return svg;
};
const ICONS = { pause: "M3 2h2v8H3zM7 2h2v8H7z", resume: "M3 1.5v9l7.5-4.5z", stop: "M2.5 2.5h7v7h-7z" };

const NAMES = { train: "Training", val: "Validation", test: "Test" };
const ORDER = ["train", "val", "test"];

// Place in the palette: runs differ by it, or splits where there is one run (rank 1 comes after the test).
const pickOf = (many, { run, split, rank }) => {
  if (many) return run;
  return split === "train" && rank > 0 ? rank + 2 : ORDER.indexOf(split);
};

const isShown = ({ run, split, rank }, runs, { hidden, byRank }) => {
  const ranked = split === "train" && byRank && runs[run].world > 1;
  if (split === "train" && rank >= 0 !== ranked) return false;
  return ![`run ${run}`, split, `rank ${rank}`].some((id) => hidden.has(id));
};

const labelOf = (runs, { run, split, rank }) => {
  const name = rank >= 0 ? `Rank ${rank}` : NAMES[split];
  return runs.length > 1 ? `${nameOf(runs, run)}, ${name.toLowerCase()}` : name;
};

// The lines of one chart, quiet ones first. With several runs colour tells the run and dashes the validation.
const linesOf = (store, metric, options) => {
  const { smoothing, palette } = options;
  const many = store.runs.length > 1;
  const entries = [...store.entries.values()].filter((e) => e.metric === metric && isShown(e, store.runs, options));
  entries.sort((a, b) => a.run - b.run || ORDER.indexOf(a.split) - ORDER.indexOf(b.split) || a.rank - b.rank);
  const lines = [];
  for (const entry of entries) {
    const { split, series } = entry;
    const label = labelOf(store.runs, entry);
    const color = palette[pickOf(many, entry) % palette.length];
    const style = { color, dots: split !== "train", single: split === "test" };
    if (split === "val" && many) style.dash = [5, 4];
    if (split === "train" && smoothing > 0) {
      lines.push({ ...style, label: `${label}, raw`, series, quiet: true });
      lines.push({ ...style, label: many ? label : `${label}, smoothed`, series: store.smooth(entry, smoothing) });
    } else lines.push({ ...style, label, series });
  }
  return lines.sort((a, b) => (b.quiet ?? 0) - (a.quiet ?? 0));
};

// Runs of the same name are told apart by the end of their ids.
const nameOf = (runs, index = 0) => {
  const own = (run) => run.name || run.title;
  const twins = runs.filter((run) => own(run) === own(runs[index]));
  return own(runs[index]) + (twins.length > 1 ? ` ${runs[index].id.slice(-4)}` : "");
};

const COLUMNS = [
  "Rank", "State", "Step", "Samples/s", "A step: compute, communication, idle", "Behind", "Share of samples",
  "Sent a step", "Tensors at most", "Memory", "Device",
];
const [STATE, TIMES] = [1, 4]; // columns that hold more than text

const brief = (seconds) => (seconds < 1 ? `${plain(Number((seconds * 1e3).toPrecision(3)))} ms` : duration(seconds));
const small = (value) => (value < 1e6 ? `${plain(Number((value / 1e3).toPrecision(3)))} kB` : bytes(value));

// Where the time of a rank's step goes: a bar, and the same in words.
const timesOf = ({ seconds, ...cost }) => {
  const kinds = ["compute", "communication", "idle"];
  const parts = kinds.map((kind) => h("i", { "data-kind": kind, style: `width:${(100 * cost[kind]) / seconds}%` }));
  const shares = kinds.map((kind) => `${Math.round((100 * cost[kind]) / seconds)} %`);
  const title = kinds.map((kind) => `${kind} ${brief(cost[kind])}`).join(", ");
  const bar = h("span", { class: "ll-times", title, "aria-hidden": "true" }, ...parts);
  return [bar, `${shares.join(", ")} of ${brief(seconds)}`];
};

// The cells of a rank in the table.
const cellsOf = ({ rank, state, step, samples_per_s, cost, waits, memory, gpu_memory, device, threads }) => [
  rank,
  state,
  grouped(step) + (waits ? `, waits in ${waits}` : ""),
  samples_per_s == null ? "–" : grouped(samples_per_s),
  JSON.stringify(cost ?? null),
  cost?.behind == null ? "–" : brief(cost.behind),
  cost?.share == null ? "–" : `${Math.round(100 * cost.share)} %`,
  cost ? small(cost.bytes) : "–",
  cost ? small(cost.memory.peak) : "–",
  bytes(memory) + (gpu_memory ? ` + ${bytes(gpu_memory)} GPU` : ""),
  (device ?? "–") + (threads ? `, ${threads} thread${threads > 1 ? "s" : ""}` : ""),
];

class Panel {
  constructor(store, model, root) {
    Object.assign(this, { store, model, root, hidden: new Set() });
    const zoom = (range) => {
      if (range && range[1] - range[0] < 2) return; // steps
      this.view.range = range;
      this.redraw();
    };
    this.view = { range: null, cursor: null, zoom, moved: (spoken) => this.moved(spoken) };
    this.build();
    this.charts = [
      new Chart(this.figures[0], this.view, { title: "Loss", format: plain, log: () => model.get("log_scale") }),
      new Chart(this.figures[1], this.view, { title: "Accuracy", format: percent, bounds: [0, 1] }),
    ];
    this.listen();
    this.update({});
  }

  listen() {
    const { model, store, root } = this;
    this.onMessage = (message) => this.update(message);
    store.listeners.add(this.onMessage);
    for (const name of ["smoothing", "log_scale", "by_rank"]) model.on(`change:${name}`, () => this.update({}));
    this.sizes = new ResizeObserver(() => this.redraw());
    for (const figure of this.figures) this.sizes.observe(figure);
    this.sight = new IntersectionObserver(([{ isIntersecting }]) => {
      this.visible = isIntersecting;
      this.redraw();
    });
    this.sight.observe(root);
    this.stopTheme = onThemeChange(() => {
      this.theme = null;
      this.redraw();
    });
  }

  destroy() {
    this.store.listeners.delete(this.onMessage);
    this.sizes.disconnect();
    this.sight.disconnect();
    this.stopTheme();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.sumLater);
    clearTimeout(this.late);
  }

  build() {
    const scale = { "aria-label": "Progress of the run", "aria-valuemin": 0, "aria-valuemax": 100 };
    this.progress = h("div", { class: "ll-progress", role: "progressbar", ...scale });
    this.bar = this.progress.appendChild(h("div", { class: "ll-bar" }));
    this.numbers = h("dl", { class: "ll-figures" });
    this.legend = h("div", { class: "ll-legend", role: "group", "aria-label": "Curves shown" });
    this.failure = h("div", { class: "ll-failure", role: "alert", hidden: true });
    this.message = h("div", { class: "ll-message", role: "status", "aria-live": "polite" });
    this.spoken = h("div", { class: "ll-unseen", role: "status", "aria-live": "polite" });
    this.figures = [h("div", { class: "ll-chart" }), h("div", { class: "ll-chart" })];
    this.notes = this.figures.map(() => h("span", { class: "ll-note" }));
    this.panes = ["Loss", "Accuracy"].map((title, i) =>
      h("section", { class: "ll-pane" }, h("h4", {}, title, this.notes[i]), this.figures[i]),
    );
    this.root.replaceChildren(
      this.buildHead(),
      this.progress,
      this.numbers,
      this.message,
      this.failure,
      h("div", { class: "ll-tools" }, this.legend, this.buildTools()),
      h("div", { class: "ll-charts" }, ...this.panes),
      this.buildTable(),
      this.spoken,
    );
  }

  buildHead() {
    this.title = h("div", { class: "ll-title" });
    this.subtitle = h("div", { class: "ll-subtitle" });
    this.remark = h("div", { class: "ll-remark" });
    this.buttons = {};
    for (const [command, path] of Object.entries(ICONS)) {
      const label = command[0].toUpperCase() + command.slice(1);
      const act = () => this.command(command);
      this.buttons[command] = h("button", { class: "ll-button", type: "button", onclick: act }, icon(path), label);
    }
    this.rate = h("input", {
      class: "ll-input", type: "text", inputmode: "decimal", spellcheck: "false",
      "aria-label": "Learning rate of the running job", oninput: () => (this.rate.dataset.dirty = "yes"),
      onkeydown: (event) => this.rateKey(event),
    });
    // The form itself takes the focus where a button that is clicked doesn't (Safari): it is then not left.
    this.rateForm = h(
      "form",
      {
        class: "ll-rate", tabindex: -1,
        onsubmit: (event) => this.setRate(event), onfocusout: (event) => this.leaveRate(event),
      },
      h("span", { "aria-hidden": "true" }, "Learning rate"),
      this.rate,
      h("button", { class: "ll-button", "aria-label": "Set the learning rate" }, "Set"),
    );
    const controls = h("div", { class: "ll-controls", role: "group", "aria-label": "Control of the run" }, this.rateForm);
    controls.append(...Object.values(this.buttons));
    const names = h("div", { class: "ll-names" }, this.title, this.subtitle, this.remark);
    return h("header", { class: "ll-head" }, names, controls);
  }

  buildTools() {
    const chip = (label, onclick) => h("button", { class: "ll-chip", type: "button", onclick }, label);
    const toggle = (trait, label) => chip(label, () => this.save(trait, !this.model.get(trait)));
    this.byRank = toggle("by_rank", "By rank");
    this.logScale = toggle("log_scale", "Log loss");
    this.smoothing = h("input", {
      type: "range", min: 0, max: 0.99, step: 0.01, "aria-label": "Smoothing of the training curves",
      oninput: () => this.save("smoothing", Number(this.smoothing.value)),
    });
    this.weight = h("span", { class: "ll-number" });
    this.zoomOut = chip("Reset zoom", () => this.view.zoom(null));
    const slider = h("label", { class: "ll-slider" }, "Smoothing", this.smoothing, this.weight);
    return h("div", { class: "ll-options" }, this.zoomOut, this.byRank, this.logScale, slider);
  }

  buildTable() {
    this.ranks = h("tbody");
    const head = h("thead", {}, h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col" }, name))));
    const caption = h("caption", { class: "ll-unseen" }, "Ranks of the run");
    return h("div", { class: "ll-scroll" }, h("table", { class: "ll-table" }, caption, head, this.ranks));
  }

  save(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
    this.update({});
  }

  command(command, values = {}) {
    this.model.send({ command, values });
    clearTimeout(this.late);
    this.say("");
    const busy = "The kernel is busy: the command is carried out when the running cell ends.";
    this.late = setTimeout(() => this.say(busy), 1500);
  }

  // JupyterLab keeps Enter from submitting a form.
  rateKey(event) {
    if (event.key === "Escape") this.rate.blur();
    if (event.key !== "Enter") return;
    event.preventDefault();
    this.rateForm.requestSubmit();
  }

  // An edit that is left without being set is dropped.
  leaveRate({ relatedTarget }) {
    if (this.rateForm.contains(relatedTarget)) return;
    delete this.rate.dataset.dirty;
    this.showHead();
  }

  setRate(event) {
    event.preventDefault();
    const text = this.rate.value.trim();
    // Number() alone would read "0x10" as well.
    const lr = /^\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
    if (!(lr > 0 && lr < Infinity))
      return this.say(`Learning rate "${text}": must be a number above 0, such as 0.001 or 1e-3.`, true);
    delete this.rate.dataset.dirty;
    this.command("set", { lr });
  }

  say(text, error = false) {
    this.message.classList.toggle("ll-error", error);
    setText(this.message, text);
  }

  // A message of the kernel, or a change of an option.
  update(message) {
    if (message.type === "ack" || message.type === "refused") {
      clearTimeout(this.late);
      this.say(message.text ?? "", message.type === "refused");
    }
    this.showHead();
    this.redraw();
  }

  showHead() {
    const { runs } = this.store;
    const [run] = runs;
    const total = run.steps;
    const part = run.state === "done" ? 1 : total ? Math.min(1, run.step / total) : 0;
    this.root.dataset.state = run.state;
    this.root.dataset.step = run.step;
    setText(this.title, nameOf(runs));
    if (this.title.dataset.state !== run.state) {
      this.title.dataset.state = run.state;
      this.badge?.remove();
      this.title.after((this.badge = badge(run.state)));
    }
    setText(this.subtitle, `${run.name ? `${run.title} · ` : ""}${run.strategy} × ${run.world} · ${run.id}`);
    setText(this.remark, run.remark ?? "");
    this.remark.hidden = !run.remark;
    this.bar.style.width = `${100 * part}%`;
    this.progress.setAttribute("aria-valuenow", Math.round(100 * part));
    this.showFigures(run);
    this.showControls(run);
    this.showRanks(run);
    this.showFailure(run.failure);
    this.showLegend();
    this.speak(run);
  }

  showFigures(run) {
    const { figures } = run;
    const running = !TERMINAL.includes(run.state);
    const of = (value, total) => (total ? `${grouped(value)} / ${grouped(total)}` : grouped(value));
    const items = run.link ? [["Now", run.link]] : [];
    items.push(
      ["Epoch", of(run.epoch, run.epochs)],
      ["Step", of(run.step, run.steps)],
      ["Samples/s", run.samples_per_s ? grouped(run.samples_per_s) : "–"],
      running ? ["Time left", duration(run.seconds_left)] : ["Time", duration(run.seconds)],
      ["Validation loss", figures.val_loss == null ? "–" : plain(figures.val_loss)],
    );
    if (figures.val_accuracy != null) items.push(["Validation accuracy", percent(figures.val_accuracy)]);
    if (figures.test_accuracy != null) items.push(["Test accuracy", percent(figures.test_accuracy)]);
    const list = this.numbers;
    if (list.childElementCount !== items.length || list.dataset.kind !== `${running}`) {
      list.dataset.kind = `${running}`;
      list.replaceChildren(...items.map(() => h("div", {}, h("dt"), h("dd"))));
    }
    items.forEach(([name, value], i) => {
      setText(list.children[i].firstChild, name);
      setText(list.children[i].lastChild, value);
    });
  }

  showControls({ state, base_lr }) {
    const can = {
      pause: ["starting", "running"].includes(state),
      resume: ["paused", "stopped", "interrupted", "failed"].includes(state),
      stop: !TERMINAL.includes(state) && state !== "stopping",
    };
    for (const [command, button] of Object.entries(this.buttons)) {
      button.disabled = !can[command];
      button.hidden = !can[command] && command !== "stop" && (command === "resume" ? !can.resume : can.resume);
    }
    const steerable = !TERMINAL.includes(state);
    this.rateForm.querySelectorAll("input, button").forEach((control) => (control.disabled = !steerable));
    const edited = this.rate.dataset.dirty || document.activeElement === this.rate;
    if (!edited) this.rate.value = String(base_lr);
  }

  showRanks({ ranks }) {
    while (this.ranks.rows.length > ranks.length) this.ranks.deleteRow(-1);
    ranks.forEach((rank, i) => {
      const cells = cellsOf(rank);
      if (i >= this.ranks.rows.length)
        this.ranks.append(h("tr", {}, h("th", { scope: "row" }), ...cells.slice(1).map(() => h("td"))));
      const row = this.ranks.rows[i];
      cells.forEach((text, column) => {
        const cell = row.cells[column];
        if (column === STATE) cell.textContent !== text && cell.replaceChildren(badge(text));
        else if (column !== TIMES) setText(cell, String(text));
        else if (cell.dataset.shown !== text) {
          cell.dataset.shown = text;
          cell.replaceChildren(...(rank.cost ? timesOf(rank.cost) : ["–"]));
        }
      });
    });
  }

  showFailure(failure) {
    this.failure.hidden = !failure;
    const text = JSON.stringify(failure);
    if (!failure || this.failure.dataset.shown === text) return;
    this.failure.dataset.shown = text;
    const waited = (rank) => (failure.waits?.[rank] ? ` in ${failure.waits[rank]}` : "");
    const others = Object.entries(failure.others ?? {}).map(
      ([rank, step]) => `rank ${rank} at step ${grouped(step)}${waited(rank)}`,
    );
    const step = failure.checkpoint;
    const saved = step == null ? "" : `checkpoint of step ${grouped(step)}: Resume goes on from it`;
    const facts = { Where: failure.where, Step: failure.step, "The others": others.join(", "), Saved: saved };
    const known = Object.entries(facts).filter(([, value]) => value != null && value !== "");
    this.failure.replaceChildren(
      h("strong", {}, `${failure.rank < 0 ? "The supervisor" : `Rank ${failure.rank}`} failed: ${failure.type}`),
      h("p", {}, failure.message),
      h("dl", {}, ...known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
    );
    if (!failure.traceback) return;
    const traceback = h("pre", { tabindex: "0" }, failure.traceback);
    this.failure.append(h("details", {}, h("summary", {}, "Traceback"), traceback));
  }

  showLegend() {
    const byRank = this.model.get("by_rank");
    const world = Math.max(...this.store.runs.map((run) => run.world));
    this.byRank.hidden = world === 1;
    this.byRank.setAttribute("aria-pressed", byRank);
    this.logScale.setAttribute("aria-pressed", this.model.get("log_scale"));
    this.smoothing.value = this.model.get("smoothing");
    setText(this.weight, this.model.get("smoothing").toFixed(2));
    const items = this.legendItems(byRank ? world : 1);
    const key = JSON.stringify([items, this.root.dataset.theme]);
    if (this.legend.dataset.key !== key) {
      this.legend.dataset.key = key;
      this.legend.replaceChildren(...items.map((item) => this.buildKey(item)));
    }
    for (const chip of this.legend.children) chip.setAttribute("aria-pressed", !this.hidden.has(chip.dataset.id));
  }

  // What can be hidden: runs where there are several, then splits, with the ranks in place of training.
  legendItems(world) {
    const { runs, entries } = this.store;
    const many = runs.length > 1;
    const splits = new Set([...entries.values()].map((entry) => entry.split));
    const keys = runs.map(({ id }, run) => ({ id: `run ${run}`, label: nameOf(runs, run), title: id, pick: run }));
    const items = many ? keys : [];
    for (const split of ORDER.filter((name) => splits.has(name)))
      if (split === "train" && world > 1)
        for (let rank = 0; rank < world; rank++)
          items.push({ id: `rank ${rank}`, label: `Rank ${rank}`, pick: many ? null : pickOf(many, { split, rank }) });
      else items.push({ id: split, label: NAMES[split], pick: many ? null : pickOf(many, { split, rank: -1 }) });
    return items;
  }

  buildKey({ id, label, title, pick }) {
    const palette = this.theme?.palette ?? PALETTE.light;
    const color = pick == null ? "currentColor" : palette[pick % palette.length];
    const flip = () => {
      if (!this.hidden.delete(id)) this.hidden.add(id);
      this.update({});
    };
    const dash = pick == null && id === "val";
    const swatch = h("i", { class: "ll-swatch", "data-dash": dash, style: `--ll-color:${color}` });
    return h("button", { class: "ll-chip ll-key", type: "button", "data-id": id, title, onclick: flip }, swatch, label);
  }

  // Changes of state and new validations are spoken, at most every five seconds.
  speak(run) {
    const key = `${run.state} ${run.link} ${run.figures.val_loss}`;
    const wait = run.state === this.said?.state ? 5000 : 0;
    if (key === this.said?.key || (this.said && performance.now() < this.said.at + wait)) return;
    this.said = { key, at: performance.now(), state: run.state };
    const accuracy = run.figures.val_accuracy == null ? "" : `, validation accuracy ${percent(run.figures.val_accuracy)}`;
    const link = run.link ? `${run.link}, ` : "";
    const where = `${link}epoch ${run.epoch} of ${run.epochs}, step ${grouped(run.step)}`;
    setText(this.spoken, `${nameOf(this.store.runs)}: ${run.state}, ${where}${accuracy}`);
  }

  moved(spoken) {
    if (spoken) setText(this.spoken, this.charts.map((chart) => chart.reading()).filter(Boolean).join(". "));
    this.cursorFrame ??= requestAnimationFrame(() => {
      this.cursorFrame = null;
      for (const chart of this.charts) chart.width && chart.hover();
    });
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.visible !== false) this.draw();
    });
  }

  draw() {
    const began = performance.now();
    if (!this.theme) {
      this.theme = readTheme(this.root);
      this.showLegend();
    }
    const smoothing = this.model.get("smoothing");
    const options = { hidden: this.hidden, byRank: this.model.get("by_rank"), smoothing, palette: this.theme.palette };
    const entries = [...this.store.entries.values()];
    this.panes[1].hidden = entries.length > 0 && !entries.some((entry) => entry.metric === "accuracy");
    this.charts.forEach((chart, i) => {
      chart.lines = linesOf(this.store, i ? "accuracy" : "loss", options);
      chart.marks = this.store.runs.length === 1 ? this.store.runs[0].marks : [];
      chart.draw(this.theme);
    });
    const label = smoothing > 0 ? `exponential mean ${smoothing.toFixed(2)}, raw faint` : "";
    for (const note of this.notes) setText(note, label);
    this.zoomOut.hidden = !this.view.range;
    this.report(performance.now() - began);
  }

  // What is drawn, for tests, benchmarks and screen readers.
  report(cost) {
    let points = 0, last = 0;
    for (const { series, rank } of this.store.entries.values())
      if (rank < 0 && series.n) {
        points += series.n;
        last = Math.max(last, series.x[series.n - 1]);
      }
    Object.assign(this.root.dataset, { points, last, cost: cost.toFixed(2) });
    const wait = (this.summed ?? -Infinity) + 1000 - performance.now();
    if (wait > 0) this.sumLater ??= setTimeout(() => this.summarise(), wait);
    else this.summarise();
  }

  summarise() {
    clearTimeout(this.sumLater);
    this.sumLater = null;
    this.summed = performance.now();
    this.charts.forEach((chart, i) => this.figures[i].setAttribute("aria-label", chart.summary()));
  }
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
    },
    render({ model, el }) {
      const root = h("section", { class: "ll-root ll-live", "aria-label": "Live view of the run" });
      el.append(root);
      const panel = new Panel(store, model, root);
      return () => panel.destroy();
    },
  };
};
