// The charts of a live view, one a metric, and the chips that choose which are drawn.
// Served after base.js, chooser.js, chart.js and lines.js in one module, before own.js and live.js. Python: live.py.

const OWN = "own/"; // before the name of a number that the user's code logs
const FIRST_OWN = 2; // of them, those that are drawn before someone chooses
const DOWN = "M5 1h2v5h2.2L6 9.3 2.8 6H5zM1.5 10h9v1.3h-9z";
const ZOOM = "Drag across to zoom, double-click to see all. Keys: arrows walk along the curve, + and - zoom.";

const ownMetric = (name) => ({ name, title: name.slice(OWN.length), fraction: false, higher: true, highest: null, own: true });

// A chart with its heading. What is better the lower, and has no end, follows the log scale of the loss.
class Pane {
  constructor(metric, view, isLog, save) {
    const { title, highest, higher } = metric;
    const told = `Save the ${title.toLowerCase()} as a picture`;
    this.name = metric.name;
    this.figure = h("div", { class: "ll-chart", "aria-description": ZOOM });
    this.note = h("span", { class: "ll-note" });
    const button = { class: "ll-save", type: "button", title: told, "aria-label": told, onclick: () => save(this) };
    const heading = h("h4", { title: ZOOM }, title, this.note, h("button", button, icon(DOWN)));
    this.element = h("section", { class: "ll-pane" }, heading, this.figure);
    const scale = !higher && highest == null ? { log: isLog } : { bounds: highest == null ? null : [0, highest] };
    this.chart = new Chart(this.figure, view, { title, format: formatOf(metric), ...scale });
  }
}

// All that the runs have, which of it is drawn, and the chips to choose. `make` gives the pane of a metric; `chosen` the
// names that someone chose, or null; `choose` takes them.
class Panes {
  constructor({ make, chosen, choose }) {
    Object.assign(this, { make, chosen, panes: new Map(), shown: [] });
    this.box = h("div", { class: "ll-charts" });
    this.chooser = new Chooser("Charts", choose);
    this.element = this.chooser.element;
  }

  // Takes up what there is by now: metrics, and the entries that have points.
  update({ drawn, shown }, entries) {
    const there = new Set([...entries.values()].map(({ metric }) => metric));
    const logged = [...there].filter((name) => name.startsWith(OWN));
    const chosen = this.chosen();
    const first = shown.filter((name) => !there.size || there.has(name) || drawn.find((m) => m.name === name)?.first);
    const wanted = new Set(chosen ?? [...first, ...logged.slice(0, FIRST_OWN)]);
    const late = [...wanted].filter((name) => name.startsWith(OWN) && !there.has(name));
    const offered = drawn.filter(({ name }) => there.has(name) || wanted.has(name));
    const all = [...offered, ...[...logged, ...late].map(ownMetric)];
    this.shown = all.filter(({ name }) => wanted.has(name)).map((metric) => this.pane(metric));
    place(this.box, this.shown.map(({ element }) => element));
    this.chooser.update(all, this.names);
  }

  get names() {
    return this.shown.map(({ name }) => name);
  }

  pane(metric) {
    if (!this.panes.has(metric.name)) this.panes.set(metric.name, this.make(metric));
    return this.panes.get(metric.name);
  }
}
