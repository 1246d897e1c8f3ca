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
      const told = `${Math.round(100 * model.get("value"))} %`;
      value.textContent = told;
      input.setAttribute("aria-valuetext", told);
    };
    const move = () => {
      model.set("value", Number(input.value));
      model.save_changes();
      show();
    };
    input.addEventListener("input", move);
    // JupyterLab takes the arrows before an input hears of them, wherever the focus is.
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    const press = (event) => {
      if (document.activeElement !== input || !(event.key in steps)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      input[steps[event.key] > 0 ? "stepUp" : "stepDown"]();
      move();
    };
    window.addEventListener("keydown", press, true);
    model.on("change", show);
    show();
    requestAnimationFrame(() => readTheme(root)); // it is not in the page yet
    const forget = onThemeChange(() => readTheme(root));
    return () => {
      forget?.();
      window.removeEventListener("keydown", press, true);
      model.off("change", show);
    };
  },
};
