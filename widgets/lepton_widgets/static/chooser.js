// Chips that choose what of a view is shown. Served after base.js in one module, before what has a choice.

// Puts elements in place of those that are there; what has the focus keeps it.
const place = (parent, elements) => {
  if (elements.length === parent.children.length && elements.every((element, i) => parent.children[i] === element)) return;
  const focus = document.activeElement;
  parent.replaceChildren(...elements);
  if (parent.contains(focus)) focus.focus();
};

// `what` is chosen, such as charts; `choose` takes the names that are to be shown.
class Chooser {
  constructor(what, choose) {
    Object.assign(this, { choose, chips: new Map(), names: [], shown: new Set() });
    this.row = h("div", { class: "ll-options", role: "group", "aria-label": `${what} shown` });
    this.element = h("div", { class: "ll-own", hidden: true }, h("span", { class: "ll-own-head" }, what), this.row);
  }

  // Takes all that there is by now, each with its name and title, and the names of those that are shown.
  update(all, shown) {
    this.names = all.map(({ name }) => name);
    this.shown = new Set(shown);
    place(this.row, all.map((one) => this.chip(one)));
    this.element.hidden = all.length < 2;
  }

  chip({ name, title }) {
    if (!this.chips.has(name))
      this.chips.set(name, h("button", { class: "ll-chip", type: "button", onclick: () => this.flip(name) }, title));
    const chip = this.chips.get(name);
    chip.setAttribute("aria-pressed", this.shown.has(name));
    return chip;
  }

  // What is shown is known at once: another click may come before it is drawn.
  flip(name) {
    if (!this.shown.delete(name)) this.shown.add(name);
    this.choose(this.names.filter((each) => this.shown.has(each)));
  }
}
