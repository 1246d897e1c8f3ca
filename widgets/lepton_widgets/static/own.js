// What a user's code logged beside numbers: a strip of media under a step slider.
// Served before live.js in one module. Python: live.py (files), status.py (what there is).

const CACHED = 200; // files of media that a page holds

// The media of one run: of each name the latest at or before the step that the slider is at. At its end it follows.
class Strip {
  constructor(store, ask) {
    Object.assign(this, { store, ask, files: new Map(), asked: new Set(), cards: new Map(), step: null });
    this.slider = h("input", { type: "range", min: 0, step: 1, oninput: () => this.moved() });
    this.place = h("output", { class: "ll-number" });
    this.row = h("div", { class: "ll-strip-row" });
    this.dropped = h("div", { class: "ll-note" });
    const slider = h("label", { class: "ll-slider" }, "Step", this.slider, this.place);
    this.bar = h("div", { class: "ll-strip-bar" }, h("span", { class: "ll-own-head" }, "Media"), slider);
    this.element = h("section", { class: "ll-strip", hidden: true, "aria-label": "Logged media" }, this.bar, this.row, this.dropped);
  }

  // A message with files: bytes by name.
  take({ run, files }, buffers) {
    files.forEach((file, i) => {
      const id = `${run}/${file}`;
      if (!buffers?.[i] || this.files.has(id)) return;
      const { buffer, byteOffset, byteLength } = buffers[i];
      this.files.set(id, { bytes: new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength)) });
      this.asked.delete(id);
    });
    for (const [id, { url }] of this.files) {
      if (this.files.size <= CACHED) break;
      if (url) URL.revokeObjectURL(url);
      this.files.delete(id);
    }
    this.show(this.run);
  }

  moved() {
    const at = Number(this.slider.value);
    this.step = at === this.steps.length - 1 ? null : this.steps[at];
    this.show(this.run);
  }

  show(run) {
    if (run.id !== this.run?.id) {
      this.step = null;
      this.cards.clear();
      this.row.replaceChildren();
    }
    this.run = run;
    setText(this.dropped, run.dropped ? `${grouped(run.dropped)} logged figures were dropped: more than a run keeps.` : "");
    this.element.hidden = !run.media.length && !run.dropped;
    this.bar.hidden = !run.media.length;
    this.steps = [...new Set(run.media.flatMap(({ entries }) => entries.map(({ step }) => step)))].sort((a, b) => a - b);
    if (!this.steps.length) return;
    const at = this.step == null ? this.steps.length - 1 : this.steps.findLastIndex((step) => step <= this.step);
    Object.assign(this.slider, { max: this.steps.length - 1, value: Math.max(0, at) });
    const step = this.steps[Math.max(0, at)];
    this.slider.setAttribute("aria-valuetext", `step ${step}`);
    setText(this.place, grouped(step));
    this.slider.disabled = this.steps.length < 2;
    const wanted = run.media.map((each) => this.card(each, each.entries.findLast((entry) => entry.step <= step)));
    const missing = wanted.filter((id) => id && !this.files.has(id) && !this.asked.has(id));
    for (const id of missing) this.asked.add(id);
    if (missing.length) this.ask(run.id, missing.map((id) => id.slice(run.id.length + 1)));
  }

  // Shows one name's entry; returns the id of the file that it needs.
  card({ name, kind }, entry) {
    let card = this.cards.get(name);
    if (!card) {
      card = { body: h("div", { class: "ll-medium" }), caption: h("figcaption") };
      card.element = h("figure", { "data-kind": kind }, card.body, card.caption);
      this.cards.set(name, card);
      this.row.append(card.element);
    }
    card.element.hidden = !entry;
    if (!entry) return null;
    const id = `${this.run.id}/${entry.file}`;
    if (card.id === id) return id;
    const file = this.files.get(id);
    if (!file) return id; // what was shown before stays meanwhile
    card.id = id;
    const split = entry.split === "train" ? "" : `, ${(NAMES[entry.split] ?? entry.split).toLowerCase()}`;
    card.caption.replaceChildren(h("b", {}, name), ` step ${grouped(entry.step)}${split}`);
    card.body.replaceChildren(this.medium(name, kind, entry, file));
    return id;
  }

  medium(name, kind, entry, file) {
    const label = `${name} at step ${entry.step}`;
    if (kind === "text") return h("pre", { tabindex: 0, "aria-label": label }, new TextDecoder().decode(file.bytes));
    if (kind === "samples") { // drawn by the kernel, which escapes what is in the file
      const cards = h("div", { class: "ll-samples", tabindex: 0, role: "group", "aria-label": label });
      cards.innerHTML = new TextDecoder().decode(file.bytes);
      return cards;
    }
    if (kind === "histogram") return spreadOf(JSON.parse(new TextDecoder().decode(file.bytes)), label);
    file.url ??= URL.createObjectURL(new Blob([file.bytes], { type: kind === "audio" ? "audio/wav" : "image/png" }));
    if (kind === "audio") return h("audio", { controls: true, src: file.url, "aria-label": label });
    const larger = Math.max(1, Math.floor(128 / Math.max(entry.width, entry.height)));
    return h("img", { src: file.url, alt: label, width: entry.width * larger, height: entry.height * larger });
  }

  destroy() {
    for (const { url } of this.files.values()) if (url) URL.revokeObjectURL(url);
  }
}

// A histogram as bars, with the ends of its axis.
const spreadOf = ({ edges, counts }, label) => {
  const [wide, high] = [220, 96];
  const most = Math.max(1, ...counts);
  const bar = wide / counts.length;
  const path = counts.map((count, i) => `M${i * bar} ${high}v${-(high * count) / most}h${bar}V${high}`).join("");
  const total = counts.reduce((sum, count) => sum + count, 0);
  const ends = [plain(edges[0]), plain(edges.at(-1))];
  const words = `${label}: ${grouped(total)} numbers from ${ends.join(" to ")}`;
  const box = { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img", "aria-label": words };
  const picture = vector("svg", box, vector("path", { d: path, fill: "currentColor" }));
  return h("div", { class: "ll-spread" }, picture, h("div", {}, h("span", {}, ends[0]), h("span", {}, ends[1])));
};
