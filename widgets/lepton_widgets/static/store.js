// What a view knows of its runs: points by series, and heads. Python: feed.py and curves.py.

// The points and heads of all runs. One a model, also when the page shows several views of it.
class Store {
  constructor(model) {
    this.model = model;
    this.entries = new Map();
    this.metrics = model.get("metrics");
    this.listeners = new Set();
    this.runs = model.get("header").runs;
    this.round = model.get("header").round;
    this.take(model.get("snapshot"));
    model.on("change:header", () => this.tell({ runs: model.get("header").runs }));
    model.on("change:metrics", () => {
      this.metrics = model.get("metrics");
      this.tell({});
    });
    model.on("change:snapshot", () => this.take(model.get("snapshot")) || this.tell({}));
    model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    this.destroy = onWake(() => this.reset());
  }

  // A view whose runs change counts their changes: each begins with a message that holds everything.
  receive(message, buffers) {
    if (message.type === "whole") {
      this.entries.clear();
      this.round = message.round;
    } else if (message.round !== this.round) return this.reset();
    if (buffers?.length && message.type !== "media") this.take(buffers[0]);
    this.tell(message, buffers);
  }

  tell(message, buffers) {
    this.runs = message.runs ?? this.runs;
    for (const listener of this.listeners) listener(message, buffers);
  }

  // Reads a block that curves.pack (Python) wrote.
  take(view) {
    if (!view?.byteLength) return;
    const block = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    const size = new DataView(block).getUint32(0, true);
    let at = 4 + size;
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(block, 4, size)));
    for (const [run, metric, split, rank, version, start, count] of head) {
      const xs = new Float64Array(block, at, count);
      const ys = new Float64Array(block, at + 8 * count, count);
      this.merge({ run, metric, split, rank }, version, start, xs, ys);
      at += 16 * count;
    }
  }

  // A block may repeat points or be ahead of a lost one: each says where in its series it starts.
  merge(key, version, start, xs, ys) {
    const id = Object.values(key).join("|");
    let entry = this.entries.get(id);
    if (!entry) this.entries.set(id, (entry = { ...key, version, received: 0, series: new Series() }));
    if (version < entry.version) return;
    if (version > entry.version && start === 0) {
      entry.series.clear();
      Object.assign(entry, { version, received: 0 });
    }
    if (version > entry.version || start > entry.received) return this.reset();
    const known = entry.received - start;
    if (known >= xs.length) return;
    entry.series.append(xs.subarray(known), ys.subarray(known));
    entry.received = start + xs.length;
  }

  reset() {
    if (performance.now() < this.asked + 2000) return;
    this.asked = performance.now();
    this.model.send({ type: "reset" });
  }

  asked = -Infinity;

  smooth(entry, weight) {
    if (entry.smooth?.weight !== weight) entry.smooth = new Smooth(entry.series, weight);
    entry.smooth.update();
    return entry.smooth;
  }
}
