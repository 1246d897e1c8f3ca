// The tables of a live view: its runs, where it has several, and the ranks of the one that is steered; and the card of
// a failure. Served after base.js and lines.js in one module.

const brief = (seconds) => (seconds < 1 ? `${plain(Number((seconds * 1e3).toPrecision(3)))} ms` : duration(seconds));
const small = (value) => (value < 1e6 ? `${plain(Number((value / 1e3).toPrecision(3)))} kB` : bytes(value));
const known = (value, format) => (value == null ? "–" : format(value));

const KINDS = ["compute", "communication", "idle"];
const RANK_COLUMNS = [
  "Rank", "State", "Step", "Samples/s", "Time of a step", "Behind", "Share of samples", "Sent a step",
  "Peak tensors", "Memory", "Device",
];
const [STATE, TIMES] = [1, 4]; // columns that hold more than text

// Where the time of a rank's step goes: a bar, and the same in words.
const timesOf = ({ seconds, ...cost }) => {
  const parts = KINDS.map((kind) => h("i", { "data-kind": kind, style: `width:${(100 * cost[kind]) / seconds}%` }));
  const shares = KINDS.map((kind) => `${Math.round((100 * cost[kind]) / seconds)} %`);
  const title = KINDS.map((kind) => `${kind} ${brief(cost[kind])}`).join(", ");
  const bar = h("span", { class: "ll-times", title, "aria-hidden": "true" }, ...parts);
  return [bar, `${shares.join(", ")} of ${brief(seconds)}`];
};

// The cells of a rank in the table.
const cellsOf = ({ rank, state, step, samples_per_s, cost, waits, memory, gpu_memory, device, threads, host }) => [
  rank,
  state,
  grouped(step) + (waits ? `, waits in ${waits}` : ""),
  known(samples_per_s, grouped),
  JSON.stringify(cost ?? null),
  known(cost?.behind, brief),
  known(cost?.share, (share) => `${Math.round(100 * share)} %`),
  known(cost?.bytes, small),
  known(cost?.memory.peak, small),
  bytes(memory) + (gpu_memory ? ` + ${bytes(gpu_memory)} GPU` : ""),
  (host ? `${host}: ` : "") + (device ?? "–") + (threads ? `, ${threads} thread${threads > 1 ? "s" : ""}` : ""),
];

class RankTable {
  constructor() {
    this.body = h("tbody");
    const legend = KINDS.map((kind) => h("span", { class: "ll-kind" }, h("i", { "data-kind": kind }), kind));
    const names = RANK_COLUMNS.map((name, i) => h("th", { scope: "col" }, name, ...(i === TIMES ? legend : [])));
    const caption = h("caption", { class: "ll-unseen" }, "Ranks of the run");
    const table = h("table", { class: "ll-table ll-ranks" }, caption, h("thead", {}, h("tr", {}, ...names)), this.body);
    this.element = h("div", { class: "ll-scroll" }, table);
  }

  show(ranks) {
    const { rows } = this.body;
    while (rows.length > ranks.length) this.body.deleteRow(-1);
    ranks.forEach((rank, i) => {
      const cells = cellsOf(rank);
      if (i >= rows.length) this.body.append(this.row());
      cells.forEach((text, column) => {
        const cell = rows[i].cells[column];
        if (column === STATE) cell.textContent !== text && cell.replaceChildren(badge(text));
        else if (column !== TIMES) setText(cell, String(text));
        else if (cell.dataset.shown !== text) {
          cell.dataset.shown = text;
          cell.replaceChildren(...(rank.cost ? timesOf(rank.cost) : ["–"]));
        }
      });
    });
  }

  // Each cell has the name of its column, for a page that has no room for columns.
  row() {
    const [rank, ...others] = RANK_COLUMNS.map((name) => ({ "data-name": name }));
    return h("tr", {}, h("th", { scope: "row", ...rank }), ...others.map((name) => h("td", name)));
  }
}

// The latest figures of a run that has many: a row a metric, a column a split. Fewer stand beside the progress.
const MANY = 10;
class FigureTable {
  constructor() {
    this.head = h("tr");
    this.body = h("tbody");
    const caption = h("caption", { class: "ll-unseen" }, "Latest figures of the run");
    const table = h("table", { class: "ll-table ll-measured" }, caption, h("thead", {}, this.head), this.body);
    this.element = h("div", { class: "ll-scroll", hidden: true }, table);
  }

  // Figures with what is written of each; returns whether there are enough of them for a table.
  show(listed) {
    this.element.hidden = listed.length < MANY;
    const key = JSON.stringify(listed.map(({ key, text }) => [key, text]));
    if (this.element.hidden || this.shown === key) return !this.element.hidden;
    this.shown = key;
    const splits = ORDER.filter((name) => listed.some(({ split }) => split === name));
    const titles = new Map(listed.map(({ metric, title }) => [metric, title]));
    const text = (name, place) => listed.find(({ metric, split }) => metric === name && split === place)?.text ?? "\u2013";
    const row = ([name, title]) =>
      h("tr", {}, h("th", { scope: "row" }, title), ...splits.map((split) => h("td", {}, text(name, split))));
    this.head.replaceChildren(h("td"), ...splits.map((split) => h("th", { scope: "col" }, NAMES[split])));
    this.body.replaceChildren(...[...titles].map(row));
    return true;
  }
}

// The machines of a run that is on several, in a row: how each stands, and its ranks.
const NODES = 8; // at most; one more says how many others there are
class NodeRow {
  constructor() {
    this.element = h("ul", { class: "ll-nodes", "aria-label": "Machines of the run", hidden: true });
  }

  show(nodes) {
    this.element.hidden = !nodes.length;
    const key = JSON.stringify(nodes);
    if (this.shown === key) return;
    this.shown = key;
    const sorted = [...nodes].sort((a, b) => (b.state === "lost") - (a.state === "lost"));
    const others = sorted.slice(NODES).map(({ host }) => host);
    const more = others.length ? [h("li", { class: "ll-node", title: others.join(", ") }, `and ${others.length} more`)] : [];
    this.element.replaceChildren(...sorted.slice(0, NODES).map((node) => this.item(node)), ...more);
  }

  item({ host, state, count, text }) {
    const name = count > 1 ? `${host} ×${count}` : host;
    return h("li", { class: "ll-node", "data-state": state }, name, h("small", {}, text));
  }
}

// Name of a column, what it shows, and the figure in it.
const runColumns = (metrics) => [
  ["State", (run) => run.state],
  ["Epoch", (run) => `${grouped(run.epoch)} / ${grouped(run.epochs)}`],
  ...listedOf(metrics, "val", "test").map((figure) => [
    headOf(figure), ({ figures }) => known(figures[figure.key], formatOf(figure)), figure.key,
  ]),
  ["Time", (run) => duration(run.seconds)],
];

// The best by validation: its place, and the column that tells.
const bestOf = (runs, columns, { drawn, judges }) => {
  for (const metric of judges) {
    const key = `val_${metric}`, sign = drawn.find(({ name }) => name === metric).higher ? 1 : -1;
    const column = columns.findIndex(([, , figure]) => figure === key);
    const score = runs.map(({ figures }) => sign * (figures[key] ?? NaN));
    const most = Math.max(...score.filter(Number.isFinite));
    if (score.filter(Number.isFinite).length > 1) return [score.indexOf(most), column];
  }
  return [-1, -1];
};

// The runs of an overlay: which is steered, its colour and name (which hides it), and how it stands.
class RunTable {
  constructor(steer, flip) {
    Object.assign(this, { steer, flip, columns: [], group: `ll-steer-${Math.random()}` });
    this.body = h("tbody");
    this.head = h("tr");
    const caption = h("caption", { class: "ll-unseen" }, "Runs of this view");
    const table = h("table", { class: "ll-table ll-runs" }, caption, h("thead", {}, this.head), this.body);
    this.element = h("div", { class: "ll-scroll ll-shelf-rows" }, table);
  }

  // With columns for the metrics that are `shown`, of which the first tells the best run.
  show({ runs, metrics: all }, shown, steered, hidden, palette) {
    this.element.hidden = runs.length < 2;
    if (this.element.hidden) return;
    const listed = all.listed.filter(({ metric }) => shown.includes(metric));
    const metrics = { ...all, listed, judges: all.judges.filter((name) => shown.includes(name)) };
    const key = JSON.stringify([runs.map(({ id, label }) => [id, label]), palette, metrics.listed]);
    if (this.key !== key) this.build(runs, metrics, palette, key);
    const [best, column] = bestOf(runs, this.columns, metrics);
    runs.forEach((run, i) => {
      const { cells } = this.body.rows[i];
      cells[0].firstChild.checked = i === steered;
      cells[1].firstChild.setAttribute("aria-pressed", !hidden.has(`run ${i}`));
      this.columns.forEach(([name, text], j) => {
        const cell = cells[j + 2], value = text(run) + (i === best && j === column ? " best" : "");
        if (cell.textContent === value) return;
        if (name === "State") return cell.replaceChildren(badge(value));
        const tag = i === best && j === column;
        cell.replaceChildren(text(run), ...(tag ? [" ", h("b", { class: "ll-best" }, "best")] : []));
      });
    });
  }

  build(runs, metrics, palette, key) {
    this.key = key;
    this.columns = runColumns(metrics);
    const names = ["Steer", "Run", ...this.columns.map(([name]) => name)];
    this.head.replaceChildren(...names.map((name) => h("th", { scope: "col" }, name)));
    const row = ({ id, label }, i) => {
      const steer = { type: "radio", name: this.group, "aria-label": `Steer ${label}`, onchange: () => this.steer(i) };
      const chip = { class: "ll-chip ll-key", type: "button", title: id, onclick: () => this.flip(`run ${i}`) };
      const name = h("button", chip, swatch(lookOf(palette, i)), h("span", {}, label));
      return h("tr", {}, h("td", {}, h("input", steer)), h("th", { scope: "row" }, name), ...this.columns.map(() => h("td")));
    };
    this.body.replaceChildren(...runs.map(row));
  }
}

// Why a run failed, and what leads on.
class FailureCard {
  constructor(again) {
    this.again = again;
    this.element = h("div", { class: "ll-failure", role: "alert", hidden: true });
  }

  show({ failure, remark, resumable, remedy }) {
    this.element.hidden = !failure;
    const text = JSON.stringify([failure, remark, resumable, remedy]);
    if (!failure || this.shown === text) return;
    this.shown = text;
    const waited = (rank) => (failure.waits?.[rank] ? ` in ${failure.waits[rank]}` : "");
    const others = Object.entries(failure.others ?? {}).map(
      ([rank, step]) => `rank ${rank} at step ${grouped(step)}${waited(rank)}`,
    );
    const step = failure.checkpoint;
    const saved = step == null ? "" : `checkpoint of step ${grouped(step)}${resumable ? ": Resume goes on from it" : ""}`;
    const facts = { Where: failure.where, Step: failure.step, "The others": others.join(", "), Saved: saved, Next: remark };
    const told = Object.entries(facts).filter(([, value]) => value != null && value !== "");
    this.element.replaceChildren(
      h("strong", {}, `${failure.rank < 0 ? "The supervisor" : `Rank ${failure.rank}`} failed: ${failure.type}`),
      h("p", {}, failure.message),
      h("dl", {}, ...told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
    );
    if (Object.keys(remedy).length) this.element.append(this.button(remedy));
    if (!failure.traceback) return;
    const traceback = h("pre", { tabindex: "0" }, failure.traceback);
    this.element.append(h("details", {}, h("summary", {}, "Traceback"), traceback));
  }

  button(remedy) {
    const changes = Object.entries(remedy).map(([name, value]) => `${name} ${plain(value)}`);
    const act = () => this.again(remedy);
    return h("button", { class: "ll-button ll-again", type: "button", onclick: act }, `Again with ${changes.join(", ")}`);
  }
}
