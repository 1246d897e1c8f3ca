// A playground of one small run: a slider for each of its fields, and the curve that it changes beside those before.
// Served after base.js, chart.js, store.js and lines.js in one module. Python: learner.py.

const FADES = [1, 0.5, 0.4, 0.32, 0.26, 0.2]; // of the newest curve, the one before it, and so on
const SMOOTHING = 0.9; // of the training curve: weight of the past
const TRAINING = { label: "training", quiet: true, alpha: 0.5, loose: true }; // it does not set the scale
const CEILING = 4; // times the loss at the start: where a curve leaves the picture

class Learner {
  constructor(store, model, root) {
    Object.assign(this, { store, model, root });
    this.view = { range: null, cursor: null, zoom: (range) => this.zoom(range), moved: (spoken) => this.moved(spoken) };
    this.knobs = model.get("controls").map((control) => this.buildKnob(control));
    this.metrics = store.metrics.drawn;
    this.build();
    this.charts = this.metrics.map((metric, i) => {
      const { title, highest } = metric;
      const scale = metric.first ? { log: () => true } : { bounds: highest == null ? null : [0, highest] };
      return new Chart(this.figures[i], this.view, { title, format: formatOf(metric), unit: "epoch", ...scale });
    });
    this.listen();
    this.showKnobs();
    this.update(model.get("header"));
  }

  listen() {
    const { model, store } = this;
    this.onMessage = (message) => this.update(message);
    store.listeners.add(this.onMessage);
    this.onChosen = () => this.showKnobs();
    model.on("change:chosen change:controls", this.onChosen);
    this.sizes = new ResizeObserver(() => this.redraw());
    for (const figure of this.figures) this.sizes.observe(figure);
    this.stopTheme = onThemeChange(() => {
      this.theme = null;
      this.redraw();
    });
  }

  destroy() {
    this.store.listeners.delete(this.onMessage);
    this.model.off("change:chosen change:controls", this.onChosen);
    this.sizes.disconnect();
    this.stopTheme();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.late);
  }

  build() {
    this.message = h("div", { class: "ll-message", role: "alert" });
    this.spoken = h("div", { class: "ll-unseen", role: "status", "aria-live": "polite" });
    this.trail = h("ol", { class: "ll-trail", "aria-label": "Curves shown, the newest first" });
    this.code = h("code");
    this.figures = this.metrics.map(() => h("div", { class: "ll-chart" }));
    this.notes = this.figures.map(() => h("span", { class: "ll-note" }));
    const panes = this.metrics.map(({ title }, i) =>
      h("section", { class: "ll-pane" }, h("h4", {}, title, this.notes[i]), this.figures[i]),
    );
    this.root.replaceChildren(
      h("div", { class: "ll-knobs", role: "group", "aria-label": "What to change" }, ...this.knobs.map(({ label }) => label)),
      this.message,
      h("div", { class: "ll-charts" }, ...panes),
      this.trail,
      h("div", { class: "ll-repeat" }, this.code),
      this.spoken,
    );
  }

  // A slider over the values of a control, or a list where they have no order.
  buildKnob(control) {
    const { field, label: name, texts, ordered, tooltip } = control;
    const value = h("output");
    const turn = () => this.turn(field, Number(input.value));
    const input = ordered
      ? h("input", { type: "range", min: 0, step: 1, "aria-label": name, oninput: turn })
      : h("select", { "aria-label": name, onchange: turn }, ...texts.map((text, i) => h("option", { value: i }, text)));
    const label = h("label", { class: "ll-knob", title: tooltip }, h("span", {}, name), input, ordered ? value : null);
    return { field, input, value, label };
  }

  turn(field, index) {
    this.model.set("chosen", { ...this.model.get("chosen"), [field]: index });
    this.model.save_changes();
    this.showKnobs();
    clearTimeout(this.late);
    const busy = "The kernel is busy: the new curve comes when the running cell ends.";
    this.late = setTimeout(() => setText(this.message, busy), 2000);
  }

  showKnobs() {
    const chosen = this.model.get("chosen"), controls = this.model.get("controls");
    controls.forEach(({ field, texts, needs }, i) => {
      const { input, value } = this.knobs[i];
      input.max = texts.length - 1;
      input.value = chosen[field];
      setText(value, texts[chosen[field]]);
      input.setAttribute("aria-valuetext", texts[chosen[field]]);
      const other = needs && controls.find((control) => control.field === needs.field);
      input.disabled = !!other && !needs.among.includes(other.texts[chosen[needs.field]]);
    });
  }

  update(message) {
    clearTimeout(this.late);
    const { runs } = this.store;
    this.told = message.told ?? this.told;
    setText(this.message, this.told.message);
    setText(this.code, this.told.code);
    this.redraw();
    const run = runs.at(-1);
    if (!run) return;
    Object.assign(this.root.dataset, { run: run.id, state: run.state, epochs: run.epochs, runs: runs.length });
    const key = `${run.id} ${run.state}`;
    if (this.said === key || !TERMINAL.includes(run.state)) return;
    this.said = key;
    setText(this.spoken, `${run.label}: ${this.outcome(run)}`);
  }

  showTrail() {
    const { palette } = this.theme;
    const items = this.store.runs.toReversed().map((run, age) => {
      const line = swatch({ color: colorOf(run, palette) });
      line.style.opacity = FADES[age];
      const now = age === 0 ? "true" : null;
      return h("li", { "aria-current": now, title: run.id }, line, h("span", {}, run.label), h("b", {}, this.outcome(run)));
    });
    this.trail.replaceChildren(...items);
  }

  // The newest run's training and validation, and of those before the validation, fainter the older they are.
  linesOf(metric) {
    const { store, theme } = this;
    const lines = [];
    for (const entry of store.entries.values()) {
      const run = store.runs[entry.run];
      if (!run || entry.metric !== metric || !["train", "val"].includes(entry.split)) continue;
      const age = store.runs.length - 1 - entry.run;
      const style = { color: colorOf(run, theme.palette), alpha: FADES[age], age };
      if (entry.split === "val") lines.push({ ...style, label: run.label, series: entry.series, dots: age === 0 });
      else if (age === 0) lines.push({ ...style, ...TRAINING, series: store.smooth(entry, SMOOTHING) });
    }
    return lines.sort((a, b) => b.age - a.age || (b.quiet ?? 0) - (a.quiet ?? 0));
  }

  // A rate that is too high leaves the picture: it must not press all other curves flat.
  ceiling() {
    const begun = [...this.store.entries.values()].filter((e) => e.metric === this.first && e.split === "train" && e.series.n);
    return begun.length ? [0, CEILING * Math.max(...begun.map(({ series }) => series.y[0]))] : null;
  }

  // The metric that is minimised.
  get first() {
    return this.metrics.find(({ first }) => first).name;
  }

  // What a run has come to, in words.
  outcome({ state, figure, failure }) {
    if (failure) return failure;
    const known = figure ? formatOf(this.metrics.find(({ name }) => name === figure[0]))(figure[1]) : "";
    return TERMINAL.includes(state) ? known || state : known ? `${known}, training` : state;
  }

  zoom(range) {
    if (range && range[1] - range[0] < 0.1) return;
    this.view.range = range;
    this.redraw();
  }

  moved(spoken) {
    if (spoken) setText(this.spoken, this.charts.map((chart) => chart.reading()).filter(Boolean).join(". "));
    for (const chart of this.charts) chart.width && chart.hover();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    this.theme ??= readTheme(this.root);
    this.showTrail();
    this.charts.forEach((chart, i) => {
      if (this.metrics[i].first) chart.bounds = this.ceiling();
      chart.lines = this.linesOf(this.metrics[i].name);
      chart.draw(this.theme);
      this.figures[i].setAttribute("aria-label", chart.summary());
      setText(this.notes[i], this.note(chart));
    });
    this.report();
  }

  // The looks of the lines, and which of them leave the picture of the loss, whose scale is logarithmic.
  note({ lines, y1 }) {
    const leaves = ({ series }) => (series.extent(0, series.n), Math.log10(series.hi) > y1);
    const above = lines.filter(leaves).map(({ label }) => label);
    const beyond = above.length ? `above the picture: ${above.join(", ")}; ` : "";
    return `${beyond}strong: validation; thin: training, smoothed`;
  }

  // How far the newest curve is drawn, in epochs; for tests and benchmarks.
  report() {
    const { entries, runs } = this.store;
    const ends = ["train", "val"].map((split) => {
      const series = entries.get([runs.length - 1, this.first, split, -1].join("|"))?.series;
      return series?.n ? series.x[series.n - 1] : 0;
    });
    Object.assign(this.root.dataset, { drawn: runs.at(-1)?.id ?? "", last: Math.min(...ends) });
  }
}

const colorOf = (run, palette) => palette[run.place % palette.length];

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
      return store.destroy;
    },
    render({ model, el }) {
      const root = h("section", { class: "ll-root ll-learner", "aria-label": "Learner" });
      el.append(root);
      const learner = new Learner(store, model, root);
      return () => learner.destroy();
    },
  };
};
