// A native slider with its name and its value: what a screen reader says comes from the label.
export default {
  render({ model, el }) {
    const root = document.createElement("label");
    root.className = "ll-root ll-range";
    const name = document.createElement("span");
    const input = Object.assign(document.createElement("input"), { type: "range" });
    const value = document.createElement("output");
    root.append(name, input, value);
    el.append(root);
    const show = () => {
      for (const trait of ["min", "max", "step", "disabled"]) input[trait] = model.get(trait);
      input.value = model.get("value");
      name.textContent = model.get("description");
      root.title = model.get("tooltip");
      const number = model.get("value");
      const told = model.get("plain") ? `${Number(number.toFixed(4))}` : `${Math.round(100 * number)} %`;
      value.textContent = told;
      input.setAttribute("aria-valuetext", told);
    };
    const move = () => {
      model.set("value", Number(input.value));
      model.save_changes();
      show();
    };
    input.addEventListener("input", move);
    model.on("change", show);
    show();
    requestAnimationFrame(() => readTheme(root)); // it is not in the page yet
    const forget = onThemeChange(() => readTheme(root));
    return () => {
      forget?.();
      model.off("change", show);
    };
  },
};
