// The live view of runs: head with controls, legend, charts, and their tables.
// Served after base.js, chooser.js, chart.js, store.js, lines.js, tables.js, panes.js and own.js in one module. Python: live.py.

const icon = (path) => vector("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, vector("path", { d: path }));
const ICONS = { pause: "M3 2h2v8H3zM7 2h2v8H7z", resume: "M3 1.5v9l7.5-4.5z", stop: "M2.5 2.5h7v7h-7z" };
const rateText = (rate) => (rate < 1e6 ? String(rate) : rate.toExponential().replace("e+", "e"));
const OPTIONS = ["smoothing", "log_scale", "by_rank", "steered", "charts"].map((name) => `change:${name}`).join(" ");
const WAITING = {
  queued: "In the queue", failed: "Failed before the first step", stopped: "Stopped before the first step",
  interrupted: "Interrupted before the first step", done: "No steps",
};

class Panel {
  constructor(store, model, root) {
    Object.assign(this, { store, model, root, hidden: new Set() });
    const zoom = (range) => {
      if (range && range[1] - range[0] < 2) return; // steps
      this.view.range = range;
      this.redraw();
    };
    this.view = { range: null, cursor: null, zoom, moved: (spoken) => this.moved(spoken), reach: () => this.reach() };
    this.sizes = new ResizeObserver(() => this.redraw());
    this.build();
    this.listen();
    this.update({});
  }

  makePane(metric) {
    const pane = new Pane(metric, this.view, () => this.model.get("log_scale"), (which) => this.savePicture(which));
    this.sizes.observe(pane.figure);
    return pane;
  }

  // Of those that are drawn.
  get charts() {
    return this.panes.shown.map(({ chart }) => chart);
  }

  listen() {
    const { model, store, root } = this;
    this.onMessage = (message, buffers) => this.update(message, buffers);
    store.listeners.add(this.onMessage);
    this.onOption = () => this.update({});
    model.on(OPTIONS, this.onOption);
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
    this.model.off(OPTIONS, this.onOption);
    this.sizes.disconnect();
    this.sight.disconnect();
    this.stopTheme();
    this.strip.destroy();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.sumLater);
    clearTimeout(this.late);
  }

  build() {
    const scale = { "aria-label": "Progress of the run", "aria-valuemin": 0, "aria-valuemax": 100 };
    this.progress = h("div", { class: "ll-progress", role: "progressbar", ...scale });
    this.bar = this.progress.appendChild(h("div", { class: "ll-bar" }));
    this.numbers = h("dl", { class: "ll-figures" });
    this.figures = new FigureTable();
    this.legend = h("div", { class: "ll-legend", role: "group", "aria-label": "Curves shown" });
    this.nodes = new NodeRow();
    this.failure = new FailureCard((remedy) => this.command("resume", remedy));
    this.ranks = new RankTable();
    this.table = new RunTable((i) => this.save("steered", i), (id) => this.flip(id));
    this.spoken = h("div", { class: "ll-unseen", role: "status", "aria-live": "polite" });
    this.panes = new Panes({
      make: (metric) => this.makePane(metric),
      chosen: () => this.model.get("charts"),
      choose: (names) => this.save("charts", names),
    });
    this.panes.update(this.store.metrics, this.store.entries);
    this.strip = new Strip(this.store, (run, files) => this.model.send({ type: "media", run, files }));
    this.root.replaceChildren(
      this.buildHead(),
      this.nodes.element,
      this.progress,
      this.numbers,
      this.figures.element,
      this.failure.element,
      this.table.element,
      h("div", { class: "ll-tools" }, this.legend, this.buildTools()),
      this.panes.element,
      this.panes.box,
      this.strip.element,
      this.ranks.element,
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
      const act = () => (command === "resume" && this.rate.dataset.dirty ? this.setRate() : this.command(command));
      this.buttons[command] = h("button", { class: "ll-button", type: "button", onclick: act }, icon(path), label);
    }
    this.rate = h("input", {
      class: "ll-input", type: "text", inputmode: "decimal", spellcheck: "false",
      oninput: () => this.edited(), onkeydown: (event) => this.rateKey(event),
    });
    this.set = h("button", { class: "ll-button", "aria-label": "Set the learning rate" }, "Set");
    this.rateName = h("span", { "aria-hidden": "true" }, "Learning rate");
    this.rateForm = h(
      "form", { class: "ll-rate", onsubmit: (event) => this.setRate(event) }, this.rateName, this.rate, this.set,
    );
    this.message = h("div", { class: "ll-message", role: "status", "aria-live": "polite" });
    // The group itself takes the focus where a button that is clicked doesn't (Safari): it is then not left.
    this.controls = h(
      "div",
      {
        class: "ll-controls", role: "group", "aria-label": "Control of the run", tabindex: -1,
        onfocusout: (event) => this.leaveRate(event),
      },
      this.rateForm, ...Object.values(this.buttons), this.message,
    );
    const names = h("div", { class: "ll-names" }, this.title, this.subtitle, this.remark);
    return h("header", { class: "ll-head" }, names, this.controls);
  }

  buildTools() {
    const chip = (label, onclick) => h("button", { class: "ll-chip", type: "button", onclick }, label);
    const toggle = (trait, label) => chip(label, () => this.save(trait, !this.model.get(trait)));
    this.byRank = toggle("by_rank", "By rank");
    this.logScale = toggle("log_scale", `Log ${this.store.metrics.drawn.find(({ first }) => first).title.toLowerCase()}`);
    this.smoothing = h("input", {
      type: "range", min: 0, max: 0.99, step: 0.01, "aria-label": "Smoothing of the training curves",
      oninput: () => this.save("smoothing", Number(this.smoothing.value)),
    });
    this.weight = h("span", { class: "ll-number" });
    this.zoomOut = chip("Reset zoom", () => this.view.zoom(null));
    const slider = h("label", { class: "ll-slider" }, "Smoothing", this.smoothing, this.weight);
    return h("div", { class: "ll-options" }, this.zoomOut, this.byRank, this.logScale, slider);
  }

  save(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
    this.update({});
  }

  get run() {
    const { runs } = this.store;
    return runs[this.steered];
  }

  get steered() {
    return Math.min(this.model.get("steered"), this.store.runs.length - 1);
  }

  command(command, values = {}) {
    this.model.send({ command, values, run: this.run.id });
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

  edited() {
    this.rate.dataset.dirty = "yes";
    this.showControls(this.run);
  }

  // An edit that is left without being set is dropped.
  leaveRate({ relatedTarget }) {
    if (this.controls.contains(relatedTarget)) return;
    delete this.rate.dataset.dirty;
    this.say("");
    this.showHead();
  }

  // Sets the rate of a live run; one that has ended goes on with it.
  setRate(event) {
    event?.preventDefault();
    const text = this.rate.value.trim();
    // Number() alone would read "0x10" as well.
    const lr = /^\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
    if (!(lr > 0 && lr < Infinity))
      return this.say(`Learning rate "${text}": must be a number above 0, such as 0.001 or 1e-3.`, true);
    delete this.rate.dataset.dirty;
    this.command(TERMINAL.includes(this.run.state) ? "resume" : "set", { lr });
  }

  // Below the field, over what is there: the charts don't move.
  say(text, error = false) {
    this.message.classList.toggle("ll-error", error);
    this.rate.setAttribute("aria-invalid", error && Boolean(this.rate.dataset.dirty));
    setText(this.message, text);
  }

  // A message of the kernel, or a change of an option.
  update(message, buffers) {
    if (message.type === "media") return this.strip.take(message, buffers);
    if (message.type === "ack" || message.type === "refused") {
      clearTimeout(this.late);
      this.say(message.text ?? "", message.type === "refused");
    }
    this.showHead();
    this.redraw();
  }

  showHead() {
    const { run } = this;
    const total = run.steps;
    const part = run.state === "done" ? 1 : total ? Math.min(1, run.step / total) : 0;
    this.root.dataset.state = run.state;
    this.root.dataset.step = run.step;
    setText(this.title, run.label);
    if (this.title.dataset.state !== run.state) {
      this.title.dataset.state = run.state;
      this.badge?.remove();
      this.title.after((this.badge = badge(run.state)));
    }
    const found = run.precision ? `${run.precision}, by time · ` : "";
    setText(this.subtitle, `${run.label === run.title ? "" : `${run.title} · `}${run.strategy} × ${run.world} · ${found}${run.place && `${run.place} · `}${run.id}`);
    setText(this.remark, run.remark ?? "");
    this.remark.hidden = !run.remark || Boolean(run.failure); // the card says it then
    this.bar.style.width = `${100 * part}%`;
    this.progress.setAttribute("aria-valuenow", Math.round(100 * part));
    this.nodes.show(run.nodes);
    this.showFigures(run);
    this.showControls(run);
    this.ranks.show(run.ranks);
    this.failure.show(run);
    this.showLegend();
    this.strip.show(run);
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
      ["Samples/s", known(run.samples_per_s, grouped)],
      running ? ["Time left", duration(run.seconds_left)] : ["Time", duration(run.seconds)],
    );
    const listed = listedOf(this.store.metrics, ...ORDER.slice(1))
      .filter(({ first, split, key }) => (first && !split.endsWith("_ema")) || figures[key] != null)
      .map((figure) => ({ ...figure, text: known(figures[figure.key], formatOf(figure)) }));
    if (!this.figures.show(listed)) items.push(...listed.map((figure) => [headOf(figure), figure.text]));
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

  showControls({ state, base_lr, resumable, remedy }) {
    const ended = TERMINAL.includes(state);
    const edited = Boolean(this.rate.dataset.dirty);
    // A rate can change a live run, or lead an ended one on: but none helps a run that is done, or whose code fails.
    const lead = resumable || Object.keys(remedy).length > 0;
    const can = {
      pause: ["starting", "running"].includes(state),
      resume: resumable || (ended && edited && lead),
      stop: !ended && state !== "stopping",
    };
    for (const [command, button] of Object.entries(this.buttons)) {
      button.disabled = !can[command];
      const shown = { pause: !can.resume && !ended, resume: can.resume, stop: !ended };
      button.hidden = !shown[command];
    }
    this.rate.disabled = ended && !lead;
    this.set.disabled = this.set.hidden = ended;
    this.rateForm.hidden = this.rate.disabled;
    this.rate.setAttribute("aria-label", `Learning rate ${ended ? "to resume with" : "of the running job"}`);
    if (!edited && document.activeElement !== this.rate) this.rate.value = rateText(remedy.lr ?? base_lr);
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
    this.showTable();
    const key = JSON.stringify([items, this.root.dataset.theme]);
    if (this.legend.dataset.key !== key) {
      this.legend.dataset.key = key;
      this.legend.replaceChildren(...items.map((item) => this.buildKey(item)));
    }
    for (const chip of this.legend.children) chip.setAttribute("aria-pressed", !this.hidden.has(chip.dataset.id));
  }

  showTable() {
    this.table.show(this.store, this.panes.names, this.steered, this.hidden, this.theme?.palette ?? PALETTE.light);
  }

  // What can be hidden beside runs: splits, with the ranks in place of training.
  legendItems(world) {
    const { runs, entries } = this.store;
    const many = runs.length > 1;
    const splits = new Set([...entries.values()].map((entry) => entry.split));
    const items = [];
    for (const split of ORDER.filter((name) => splits.has(name)))
      if (split === "train" && world > 1)
        for (let rank = 0; rank < world; rank++)
          items.push({ id: `rank ${rank}`, label: `Rank ${rank}`, pick: many ? null : pickOf(many, { split, rank }) });
      else items.push({ id: split, label: NAMES[split], pick: many ? null : pickOf(many, { split, rank: -1 }) });
    return items;
  }

  buildKey({ id, label, pick }) {
    const palette = this.theme?.palette ?? PALETTE.light;
    const look = pick == null ? { color: "currentColor", width: id === "train" ? 1.25 : 3 } : lookOf(palette, pick);
    const chip = { class: "ll-chip ll-key", type: "button", "data-id": id, onclick: () => this.flip(id) };
    return h("button", chip, swatch({ ...look, single: isTest(id) }), label);
  }

  flip(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.update({});
  }

  // Changes of state and new validations are spoken, at most every five seconds.
  speak(run) {
    const validated = listedOf(this.store.metrics, "val");
    const key = JSON.stringify([run.state, run.link, validated.map(({ key }) => run.figures[key])]);
    const wait = run.state === this.said?.state ? 5000 : 0;
    if (key === this.said?.key || (this.said && performance.now() < this.said.at + wait)) return;
    this.said = { key, at: performance.now(), state: run.state };
    const main = validated.find(({ name }) => name === this.store.metrics.main), figure = run.figures[main.key];
    const well = figure == null ? "" : `, ${main.label} ${formatOf(main)(figure)}`;
    const link = run.link ? `${run.link}, ` : "";
    const where = `${link}epoch ${run.epoch} of ${run.epochs}, step ${grouped(run.step)}`;
    setText(this.spoken, `${run.label}: ${run.state}, ${where}${well}`);
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
    this.panes.update(this.store.metrics, this.store.entries);
    this.showTable(); // whose columns are of the charts
    const { state } = this.run;
    for (const { chart, name, note } of this.panes.shown) {
      chart.empty = WAITING[state] ?? "Waiting for the first step";
      chart.lines = linesOf(this.store, name, options);
      chart.marks = this.store.runs.length === 1 ? this.store.runs[0].marks : [];
      chart.draw(this.theme);
      setText(note, this.note(chart, smoothing));
    }
    this.zoomOut.hidden = !this.view.range;
    this.report(performance.now() - began);
  }

  note(chart, smoothing) {
    const { runs } = this.store;
    const above = (chart.beyond ?? []).map((run) => runs[run].label);
    const beyond = above.length > 2 ? `${above.length} runs` : above.join(", ");
    const mean = smoothing > 0 && chart.lines.some(({ dots }) => !dots) ? `exponential mean ${smoothing.toFixed(2)}` : "";
    const look = runs.length > 1 ? "strong: validation" : mean && "raw faint";
    return [beyond && `above the picture: ${beyond}`, mean, look].filter(Boolean).join(", ");
  }

  // First and last step of all curves that are shown, so that the charts stand in line; null before the first.
  reach() {
    const options = { hidden: this.hidden, byRank: this.model.get("by_rank") };
    const drawn = [...this.store.entries.values()].filter((e) => e.series.n && isShown(e, this.store.runs, options));
    if (!drawn.length) return null;
    const ends = drawn.map(({ series }) => series.x[series.n - 1]);
    return [Math.min(0, ...drawn.map(({ series }) => series.x[0])), Math.max(1, ...ends)];
  }

  savePicture({ chart }) {
    const { run } = this;
    const { runs } = this.store;
    const heading = `${chart.title}, ${runs.length > 1 ? `${runs.length} runs` : run.label}`;
    savePicture(chart, heading, `${run.id}-${chart.title.toLowerCase().replace(/[^\w-]+/g, "-")}.png`);
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
    for (const { chart, figure } of this.panes.shown) figure.setAttribute("aria-label", chart.summary());
  }
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
      return store.destroy;
    },
    render({ model, el }) {
      const root = h("section", { class: "ll-root ll-live", "aria-label": "Live view of the run" });
      el.append(root);
      const panel = new Panel(store, model, root);
      return () => panel.destroy();
    },
  };
};
