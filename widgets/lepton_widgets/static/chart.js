// Line charts on a canvas. The cost follows the width in pixels and not the number of points: a series
// keeps the least and the greatest value of blocks of 8, 64, 512, ... points, and one pixel column is
// drawn from a few of these. What is served after this file in the same module uses Series, Smooth and Chart.

const FACTOR = 8;
const SMALLEST = 64; // blocks; a level with fewer is not worth keeping

const grow = (old, size) => {
  if (size <= old.length) return old;
  const grown = new Float64Array(Math.max(size, 2 * old.length));
  grown.set(old);
  return grown;
};

class Series {
  constructor() {
    this.clear();
  }

  clear() {
    this.n = 0;
    this.x = new Float64Array(256);
    this.y = new Float64Array(256);
    this.levels = []; // {n, lo, hi}: complete blocks only
    this.generation = (this.generation ?? 0) + 1;
  }

  // Points whose value is not finite are left out.
  append(xs, ys) {
    this.x = grow(this.x, this.n + xs.length);
    this.y = grow(this.y, this.n + ys.length);
    for (let i = 0; i < xs.length; i++) {
      if (!Number.isFinite(ys[i])) continue;
      this.x[this.n] = xs[i];
      this.y[this.n++] = ys[i];
    }
    this.summarise();
  }

  summarise() {
    let below = { n: this.n, lo: this.y, hi: this.y };
    for (let k = 0; below.n >= FACTOR * SMALLEST || k < this.levels.length; k++) {
      const level = (this.levels[k] ??= { n: 0, lo: new Float64Array(SMALLEST), hi: new Float64Array(SMALLEST) });
      const n = Math.floor(below.n / FACTOR);
      level.lo = grow(level.lo, n);
      level.hi = grow(level.hi, n);
      for (; level.n < n; level.n++) {
        let lo = Infinity, hi = -Infinity;
        for (let i = level.n * FACTOR; i < (level.n + 1) * FACTOR; i++) {
          if (below.lo[i] < lo) lo = below.lo[i];
          if (below.hi[i] > hi) hi = below.hi[i];
        }
        level.lo[level.n] = lo;
        level.hi[level.n] = hi;
      }
      below = level;
    }
  }

  // First index from `from` on whose x is at least `x`.
  find(x, from = 0) {
    let low = from, high = this.n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.x[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Index of the newest point at or before `x`, -1 for none.
  at(x) {
    const i = this.find(x);
    return i < this.n && this.x[i] === x ? i : i - 1;
  }

  // Least and greatest value of the points i to j - 1, left in `this.lo` and `this.hi`.
  extent(i, j) {
    let lo = Infinity, hi = -Infinity;
    let level = { lo: this.y, hi: this.y };
    for (let k = 0; i < j; k++) {
      const above = this.levels[k];
      while (i < j && (!above || i % FACTOR)) {
        if (level.lo[i] < lo) lo = level.lo[i];
        if (level.hi[i] > hi) hi = level.hi[i];
        i++;
      }
      while (i < j && j % FACTOR) {
        j--;
        if (level.lo[j] < lo) lo = level.lo[j];
        if (level.hi[j] > hi) hi = level.hi[j];
      }
      i /= FACTOR;
      j /= FACTOR;
      level = above;
    }
    this.lo = lo;
    this.hi = hi;
  }
}

// Exponential mean of another series, corrected for its start as in Adam's moments.
class Smooth extends Series {
  constructor(source, weight) {
    super();
    this.source = source;
    this.weight = weight;
  }

  update() {
    const { source, weight } = this;
    if (this.seen !== source.generation) {
      this.clear();
      this.seen = source.generation;
      this.sum = 0;
      this.rest = 1; // weight^n
    }
    const from = this.n;
    if (from === source.n) return;
    const ys = new Float64Array(source.n - from);
    for (let i = 0; i < ys.length; i++) {
      this.sum = weight * this.sum + (1 - weight) * source.y[from + i];
      this.rest *= weight;
      ys[i] = this.sum / (1 - this.rest);
    }
    this.append(source.x.subarray(from, source.n), ys);
  }
}

const niceStep = (span, count) => {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
};

const ticksOf = (low, high, count) => {
  const step = niceStep(high - low || 1, count);
  const first = Math.ceil(low / step - 1e-9);
  const n = Math.min(100, Math.floor(high / step + 1e-9) - first + 1);
  return Array.from({ length: Math.max(0, n) }, (_, i) => (first + i) * step || 0); // no -0
};

const logTicksOf = (low, high) => {
  const ticks = [];
  const wide = high - low > 2;
  for (let e = Math.floor(low); e <= Math.ceil(high); e++)
    for (const m of wide ? [1] : [1, 2, 5]) {
      const at = e + Math.log10(m);
      if (at >= low - 1e-9 && at <= high + 1e-9) ticks.push(at);
    }
  const every = Math.ceil(ticks.length / 7);
  return ticks.filter((_, i) => i % every === 0);
};

const HIGHER = 8; // times the median of the runs' highest values: one that diverged would flatten the others

// The runs whose curves leave the picture at the top, of their highest values.
const beyondOf = (tops) => {
  const sorted = [...tops.values()].sort((a, b) => a - b);
  const usual = sorted[(sorted.length - 1) >> 1];
  return usual > 0 ? [...tops].filter(([, top]) => top > HIGHER * usual).map(([run]) => run) : [];
};

const PAD = { top: 20, right: 22, bottom: 24 }; // the labels of marks stand in the top one

// One chart: two stacked canvases (curves; cursor), so that moving the cursor redraws no curve.
// `view` is shared by the charts of a panel: {range: [x0, x1] | null, cursor: x | null, zoom(range), moved(spoken)}, and
// if they are to stand in line reach(), the first and the last x of all of them.
class Chart {
  constructor(figure, view, { title, format, log = () => false, bounds = null, unit = "step" }) {
    Object.assign(this, { figure, view, title, format, log, bounds, unit });
    this.lines = [];
    this.marks = [];
    this.empty = "Waiting for the first step";
    this.base = document.createElement("canvas");
    this.over = document.createElement("canvas");
    this.tip = document.createElement("div");
    this.tip.className = "ll-tip";
    this.tip.hidden = true;
    figure.append(this.base, this.over, this.tip);
    figure.tabIndex = 0;
    figure.setAttribute("role", "img");
    this.listen();
  }

  listen() {
    const { figure, view } = this;
    const x = (event) => this.toX(event.clientX - figure.getBoundingClientRect().left);
    figure.addEventListener("pointermove", (event) => {
      view.cursor = this.drawn ? Math.min(Math.max(x(event), this.x0), this.x1) : null;
      if (this.drag != null) this.drag.to = view.cursor;
      view.moved();
    });
    figure.addEventListener("pointerleave", () => {
      view.cursor = null;
      view.moved();
    });
    figure.addEventListener("pointerdown", (event) => {
      if (event.button || !this.drawn) return;
      figure.setPointerCapture(event.pointerId);
      this.drag = { from: x(event), to: x(event), at: event.clientX };
    });
    figure.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && Math.abs(event.clientX - drag.at) > 5) {
        const [from, to] = drag.from < drag.to ? [drag.from, drag.to] : [drag.to, drag.from];
        view.zoom([Math.max(this.x0, from), Math.min(this.x1, to)]);
      }
    });
    figure.addEventListener("pointercancel", () => (this.drag = null));
    figure.addEventListener("dblclick", () => view.zoom(null));
    figure.addEventListener("keydown", (event) => this.key(event));
    figure.addEventListener("blur", () => {
      view.cursor = null;
      view.moved();
    });
  }

  key(event) {
    if (!this.drawn || event.ctrlKey || event.metaKey || event.altKey) return;
    const { view, x0, x1 } = this;
    const span = x1 - x0;
    const here = view.cursor ?? x1;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) view.cursor = this.neighbour(here, move, event.shiftKey ? span / 10 : span / 200);
    else if (event.key === "Home") view.cursor = x0;
    else if (event.key === "End") view.cursor = x1;
    else if (["+", "="].includes(event.key)) view.zoom([Math.max(x0, here - span / 4), Math.min(x1, here + span / 4)]);
    else if (event.key === "-" || event.key === "0") view.zoom(null);
    else if (event.key === "Escape" && view.cursor != null) view.cursor = null;
    else return;
    event.preventDefault();
    view.moved(true);
  }

  // The next point of the first line, but at least `least` further, so that a key never seems stuck.
  neighbour(x, direction, least) {
    const series = this.lines.find((line) => line.series.n)?.series;
    if (!series) return x;
    const wanted = x + direction * least;
    const on = direction > 0;
    const i = on ? Math.max(series.find(wanted), series.at(x) + 1) : Math.min(series.at(wanted), series.find(x) - 1);
    return Math.min(Math.max(series.x[Math.min(Math.max(i, 0), series.n - 1)], this.x0), this.x1);
  }

  // Canvas sizes follow the box and the density of the screen.
  fit() {
    const { width, height } = this.figure.getBoundingClientRect();
    const density = window.devicePixelRatio || 1;
    if (this.width === width && this.height === height && this.density === density) return;
    Object.assign(this, { width, height, density });
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
  }

  domain() {
    let low = Infinity, high = -Infinity;
    for (const { series } of this.lines)
      if (series.n) {
        low = Math.min(low, series.x[0]);
        high = Math.max(high, series.x[series.n - 1]);
      }
    if (low > high) return null;
    if (this.view.range) return this.view.range;
    return this.view.reach?.() ?? [Math.min(low, 0), Math.max(high, low + 1)];
  }

  values(x0, x1, log) {
    let low = Infinity, high = -Infinity;
    const tops = new Map();
    for (const { series, quiet, loose, run } of this.lines) {
      const from = Math.max(0, series.find(x0) - 1), to = Math.min(series.n, series.find(x1) + 1);
      // A long raw curve may leave the picture at its outliers; a short one is shown whole.
      if (from >= to || loose || (quiet && to - from > 500)) continue;
      series.extent(from, to);
      low = Math.min(low, series.lo);
      high = Math.max(high, series.hi);
      tops.set(run, Math.max(tops.get(run) ?? -Infinity, series.hi));
    }
    if (low > high) return [0, 1];
    this.beyond = log || this.bounds ? [] : beyondOf(tops);
    if (this.beyond.length) high = Math.max(...[...tops].filter(([run]) => !this.beyond.includes(run)).map(([, top]) => top));
    if (log) {
      low = Math.log10(low > 0 ? low : high > 0 ? high / 1e6 : 1e-6);
      high = Math.log10(high > 0 ? high : 1);
    }
    // A flat curve, which rounding may make not quite flat, stands in the middle.
    const flat = high - low < 1e-6 * Math.max(Math.abs(low), Math.abs(high));
    const margin = (flat ? Math.abs(high) : high - low) * 0.05 || 0.5;
    low -= margin;
    high += margin;
    if (this.bounds) {
      const [least, most] = log ? this.bounds.map(Math.log10) : this.bounds;
      return [Math.max(low, least), Math.min(high, most)];
    }
    return !log && low < 0 && low + margin >= 0 ? [0, high] : [low, high];
  }

  draw(theme) {
    this.theme = theme;
    this.fit();
    const domain = this.domain();
    this.drawn = domain != null && this.width > 0;
    const pen = this.base.getContext("2d");
    pen.setTransform(this.density, 0, 0, this.density, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    if (!this.drawn) return this.drawEmpty(pen);
    [this.x0, this.x1] = domain;
    const log = this.log();
    [this.y0, this.y1] = this.values(this.x0, this.x1, log);
    this.drawAxes(pen, log);
    pen.save();
    pen.beginPath();
    pen.rect(this.left - 1, 0, this.width - this.left - PAD.right + 6, this.height - PAD.bottom + 5);
    pen.clip();
    this.drawMarks(pen);
    for (const line of this.lines) this.drawLine(pen, line, log);
    pen.restore();
    this.hover();
  }

  drawEmpty(pen) {
    pen.font = this.theme.font;
    pen.fillStyle = this.theme.muted;
    pen.textAlign = "center";
    pen.fillText(this.empty, this.width / 2, this.height / 2);
    this.hover();
  }

  drawAxes(pen, log) {
    const { theme, width, height } = this;
    const bottom = height - PAD.bottom;
    pen.font = theme.font;
    const ticks = log ? logTicksOf(this.y0, this.y1) : ticksOf(this.y0, this.y1, Math.max(2, bottom / 38));
    const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1;
    const labels = ticks.map((tick) => (log ? this.format(10 ** tick, 0) : this.format(tick, step)));
    this.left = Math.ceil(Math.max(28, ...[...labels, this.unit].map((label) => pen.measureText(label).width)) + 10);
    this.toPx = (x) => this.left + ((x - this.x0) / (this.x1 - this.x0)) * (width - this.left - PAD.right);
    this.toX = (px) => this.x0 + ((px - this.left) / (width - this.left - PAD.right)) * (this.x1 - this.x0);
    this.toPy = (y) => bottom - ((y - this.y0) / (this.y1 - this.y0)) * (bottom - PAD.top);
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    pen.lineWidth = 1;
    ticks.forEach((tick, i) => {
      const py = Math.round(this.toPy(tick)) + 0.5;
      pen.strokeStyle = theme.grid;
      pen.beginPath();
      pen.moveTo(this.left, py);
      pen.lineTo(width - PAD.right, py);
      pen.stroke();
      pen.fillStyle = theme.muted;
      pen.fillText(labels[i], this.left - 8, py);
    });
    pen.textBaseline = "alphabetic";
    pen.fillText(this.unit, this.left - 8, height - 6);
    pen.textAlign = "center";
    for (const tick of ticksOf(this.x0, this.x1, (width - this.left) / 90))
      if (Number.isInteger(tick)) pen.fillText(grouped(tick), this.toPx(tick), height - 6);
  }

  // From the newest on: an older label makes room for it as long as it reaches its own mark, else it is left out.
  drawMarks(pen) {
    pen.strokeStyle = this.theme.mark;
    pen.fillStyle = this.theme.muted;
    pen.textAlign = "left";
    pen.setLineDash([2, 3]);
    let free = this.width - PAD.right;
    for (const { step, text } of this.marks.toReversed()) {
      if (step < this.x0 || step > this.x1) continue;
      const px = Math.round(this.toPx(step)) + 0.5;
      pen.beginPath();
      pen.moveTo(px, PAD.top);
      pen.lineTo(px, this.height - PAD.bottom);
      pen.stroke();
      const wide = pen.measureText(text).width;
      const start = Math.min(px - 2, free - wide);
      if (start + wide < px - 2) continue;
      pen.fillText(text, start, PAD.top - 7);
      free = start - 12;
    }
    pen.setLineDash([]);
  }

  drawLine(pen, line, log) {
    const { series } = line;
    const from = Math.max(0, series.find(this.x0) - 1), to = Math.min(series.n, series.find(this.x1) + 1);
    if (from >= to) return;
    const floor = log ? 10 ** (this.y0 - 1) : 0; // below the picture, where the line leaves it
    const py = log ? (y) => this.toPy(Math.log10(y > floor ? y : floor)) : this.toPy;
    const columns = Math.max(1, Math.round((this.width - this.left - PAD.right) * Math.min(this.density, 2)));
    pen.beginPath();
    if (to - from <= 2 * columns) for (let i = from; i < to; i++) pen.lineTo(this.toPx(series.x[i]), py(series.y[i]));
    else this.traceColumns(pen, series, from, to, columns, py);
    pen.strokeStyle = line.color;
    pen.globalAlpha = line.alpha ?? (line.quiet ? this.theme.faint : 1);
    pen.lineWidth = line.width ?? (line.quiet ? 1 : 1.75);
    pen.lineJoin = "round"; // miter would draw spikes on dense columns
    pen.lineCap = "round";
    pen.setLineDash(line.dash ?? []);
    pen.stroke();
    pen.setLineDash([]);
    if ((line.dots && to - from <= 80) || series.n === 1) this.drawDots(pen, line, from, to, py);
    pen.globalAlpha = 1;
  }

  traceColumns(pen, series, from, to, columns, py) {
    const width = (this.x1 - this.x0) / columns;
    let i = from;
    for (let column = 0; i < to; column++) {
      const last = column >= columns;
      const j = last ? to : Math.min(to, series.find(this.x0 + (column + 1) * width, i));
      if (j === i) continue;
      const px = this.toPx(this.x0 + (column + 0.5) * width);
      series.extent(i, j);
      pen.lineTo(px, py(series.y[i]));
      pen.lineTo(px, py(series.lo));
      pen.lineTo(px, py(series.hi));
      pen.lineTo(px, py(series.y[j - 1]));
      i = j;
    }
  }

  drawDots(pen, { series, color, single }, from, to, py) {
    pen.fillStyle = color;
    for (let i = from; i < to; i++) {
      pen.beginPath();
      pen.arc(this.toPx(series.x[i]), py(series.y[i]), single ? 4 : 2.75, 0, 7);
      pen.fill();
    }
  }

  // The cursor, what it reads, and the box that is being dragged.
  hover() {
    const pen = this.over.getContext("2d");
    pen.setTransform(this.density, 0, 0, this.density, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const { cursor } = this.view;
    this.tip.hidden = true;
    if (!this.drawn || cursor == null || cursor < this.x0 || cursor > this.x1) return;
    const { theme, drag } = this;
    if (drag) {
      pen.fillStyle = theme.select;
      const from = this.toPx(drag.from);
      pen.fillRect(from, PAD.top, this.toPx(drag.to) - from, this.height - PAD.top - PAD.bottom);
    }
    const { step, readings } = this.read(cursor);
    if (!readings.length) return;
    pen.strokeStyle = theme.muted;
    pen.beginPath();
    pen.moveTo(Math.round(this.toPx(step)) + 0.5, PAD.top);
    pen.lineTo(Math.round(this.toPx(step)) + 0.5, this.height - PAD.bottom);
    pen.stroke();
    const log = this.log();
    for (const { line, x, y } of readings) {
      if (x < this.x0 || line.quiet || (log && y <= 0)) continue;
      pen.beginPath();
      pen.arc(this.toPx(x), this.toPy(log ? Math.log10(y) : y), 4, 0, 7);
      pen.fillStyle = line.color;
      pen.fill();
      pen.strokeStyle = theme.background;
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.lineWidth = 1;
    }
    this.showTip(step, readings);
  }

  // For each line its newest value at or before the cursor, which snaps to the nearest step there is.
  read(cursor) {
    let step = null;
    const closer = (x) => step == null || Math.abs(x - cursor) < Math.abs(step - cursor);
    for (const { series } of this.lines)
      for (const i of [series.at(cursor), series.at(cursor) + 1])
        if (i >= 0 && i < series.n && closer(series.x[i])) step = series.x[i];
    const readings = [];
    for (const line of step == null ? [] : this.lines) {
      const i = line.series.at(step);
      if (i >= 0) readings.push({ line, x: line.series.x[i], y: line.series.y[i] });
    }
    return { step, readings };
  }

  showTip(step, readings) {
    if (readings.length > 4) readings = readings.filter(({ line }) => !line.quiet);
    if (readings.length > 4 && !this.figure.matches(":hover, :focus-visible")) return; // one tall box is enough
    const rows = readings.map(({ line, y }) => {
      const swatch = h("i", { style: `background:${line.color};opacity:${line.quiet ? 0.4 : 1}` });
      return h("div", {}, swatch, h("span", {}, line.label), h("b", {}, this.format(y)));
    });
    this.tip.replaceChildren(h("div", { class: "ll-tip-step" }, this.place(step)), ...rows);
    this.tip.hidden = false;
    const px = this.toPx(step), wide = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, px + 14 + wide > this.width ? px - wide - 14 : px + 14)}px`;
  }

  // Where a point stands, in words: steps are whole, passes over the data are not.
  place(x) {
    return `${this.unit[0].toUpperCase()}${this.unit.slice(1)} ${this.unit === "step" ? grouped(x) : plain(x)}`;
  }

  // What the curve says, in words.
  summary() {
    const parts = this.lines.filter(({ series, quiet }) => series.n && !quiet).map(({ label, series }) => {
      series.extent(0, series.n);
      const last = `${this.format(series.y[series.n - 1])} at ${this.place(series.x[series.n - 1]).toLowerCase()}`;
      return `${label}: ${last}, between ${this.format(series.lo)} and ${this.format(series.hi)}`;
    });
    return `${this.title} by ${this.unit}. ${parts.length ? parts.join(". ") : this.empty}.`;
  }

  reading() {
    if (this.view.cursor == null || !this.drawn) return "";
    const { step, readings } = this.read(this.view.cursor);
    return `${this.place(step)}: ` + readings.map(({ line, y }) => `${line.label} ${this.format(y)}`).join(", ");
  }
}

// Saves a chart as a PNG: what is drawn, under a heading and over the names of its lines.
const savePicture = (chart, heading, name) => {
  const { base, theme, density, width, lines } = chart;
  const named = lines.filter(({ quiet, series }) => !quiet && series.n);
  const [head, row] = [26, 17];
  const canvas = document.createElement("canvas");
  canvas.width = base.width;
  canvas.height = base.height + (head + row * named.length + 8) * density;
  const pen = canvas.getContext("2d");
  pen.fillStyle = theme.background;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(base, 0, head * density);
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.fillStyle = theme.text;
  pen.font = theme.font.replace("11px", "bold 13px");
  pen.fillText(heading, 8, 18, width - 16);
  pen.font = theme.font;
  named.forEach(({ label, color, dash, alpha }, i) => {
    const y = head + base.height / density + row * i + 8;
    Object.assign(pen, { strokeStyle: color, lineWidth: 2, globalAlpha: alpha ?? 1 });
    pen.setLineDash(dash ?? []);
    pen.beginPath();
    pen.moveTo(10, y);
    pen.lineTo(32, y);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillText(label, 40, y + 4, width - 48);
  });
  canvas.toBlob((blob) => {
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
};
