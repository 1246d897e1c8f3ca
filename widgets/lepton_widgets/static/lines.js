// Which curves a view draws, and how each is named and looks. Served after base.js and chart.js in one module.

const NAMES = { train: "Training", val: "Validation", test: "Test", val_ema: "EMA validation", test_ema: "EMA test" };
const ORDER = Object.keys(NAMES);
const isTest = (split) => split.startsWith("test");
const FAINT = 3; // runs side by side, at most, of which the raw curves are drawn too
const DASHES = [[], [8, 3], [2, 3], [8, 3, 2, 3]];

// Place in the palette: runs differ by it, or splits where there is one run (rank 1 comes after the test).
const pickOf = (many, { run, split, rank }) => {
  if (many) return run;
  return split === "train" && rank > 0 ? rank + 2 : ORDER.indexOf(split);
};

// Where the colours end they begin anew, in another dash.
const lookOf = (palette, pick) => ({
  color: palette[pick % palette.length],
  dash: DASHES[Math.floor(pick / palette.length) % DASHES.length],
});

// A piece of a line, or its only point, as the legend shows it.
const swatch = ({ color, dash, width = 3, single }) => {
  const piece = { viewBox: "0 0 22 6", "aria-hidden": "true", class: "ll-swatch" };
  if (single) return vector("svg", piece, vector("circle", { cx: 11, cy: 3, r: 3, fill: color }));
  const line = { x1: 1, x2: 21, y1: 3, y2: 3, stroke: color, "stroke-width": width, "stroke-dasharray": dash?.join(" ") };
  return vector("svg", piece, vector("line", line));
};

const isShown = ({ run, split, rank }, runs, { hidden, byRank }) => {
  const ranked = split === "train" && byRank && runs[run].world > 1;
  if (split === "train" && rank >= 0 !== ranked) return false;
  return ![`run ${run}`, split, `rank ${rank}`].some((id) => hidden.has(id));
};

const labelOf = (runs, { run, split, rank }) => {
  const name = rank >= 0 ? `Rank ${rank}` : NAMES[split];
  return runs.length > 1 ? `${runs[run].label}, ${name.toLowerCase()}` : name;
};

// The lines of one chart, quiet ones first. With several runs colour tells the run, and training is thin.
const linesOf = (store, metric, options) => {
  const { smoothing, palette } = options;
  const many = store.runs.length > 1;
  const entries = [...store.entries.values()].filter((e) => e.metric === metric && isShown(e, store.runs, options));
  entries.sort((a, b) => a.run - b.run || ORDER.indexOf(a.split) - ORDER.indexOf(b.split) || a.rank - b.rank);
  const lines = [];
  for (const entry of entries) {
    const { run, split, series } = entry;
    const label = labelOf(store.runs, entry);
    const style = { ...lookOf(palette, pickOf(many, entry)), run, dots: split !== "train", single: isTest(split) };
    if (many && split === "train") Object.assign(style, { width: 1.25, alpha: 0.65 });
    if (split === "train" && smoothing > 0) {
      if (store.runs.length <= FAINT)
        lines.push({ ...style, alpha: undefined, label: `${label}, raw`, series, quiet: true });
      lines.push({ ...style, label: many ? label : `${label}, smoothed`, series: store.smooth(entry, smoothing) });
    } else lines.push({ ...style, label, series });
  }
  const weight = ({ quiet, alpha }) => (quiet ? 0 : alpha ? 1 : 2);
  return lines.sort((a, b) => weight(a) - weight(b));
};
