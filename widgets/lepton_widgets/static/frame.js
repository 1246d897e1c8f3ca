// Shows a widget over the plain HTML that the notebook keeps of it. Served after base.js in one module. Python: frame.py.
// The notebook that is saved holds no widget: JupyterLab can't show one whose kernel is gone.

const VIEW = "application/vnd.jupyter.widget-view+json";

class Frame {
  constructor(model, notebook) {
    Object.assign(this, { model, notebook, views: new Map() });
    this.child = model.get("child").replace("IPY_MODEL_", "");
    this.mark = /class="(ll-still-\w+)"/.exec(model.get("still")["text/html"])[1];
    model.on("change:still", () => this.write());
    this.observer = new MutationObserver(() => (this.frame ??= requestAnimationFrame(() => this.look())));
    this.observer.observe(document.body, { childList: true, subtree: true });
    this.look();
  }

  look() {
    this.frame = null;
    if (!this.found) this.write();
    for (const still of document.getElementsByClassName(this.mark)) this.cover(still.closest(".jp-OutputArea-output"));
    for (const [output, { stage }] of this.views)
      if (!stage.isConnected) this.uncover(output);
  }

  // Puts what is to be saved in the place of the widget, or of what was to be saved before.
  write() {
    const data = this.model.get("still");
    const { cells } = this.notebook;
    for (let i = cells.length - 1; i >= 0; i--) {
      const { outputs } = cells.get(i);
      for (let j = 0; j < (outputs?.length ?? 0); j++) {
        const output = outputs.get(j).toJSON();
        if (!this.owns(output.data)) continue;
        this.found = true;
        if (output.data[VIEW] || String(output.data["text/html"]) !== data["text/html"])
          outputs.set(j, { ...output, data: { ...data } });
      }
    }
  }

  owns(data = {}) {
    return String(data["text/html"] ?? "").includes(this.mark);
  }

  async cover(output) {
    if (!output || this.views.has(output)) return;
    const stage = h("div", { class: "ll-stage jp-OutputArea-output" });
    const known = { stage };
    this.views.set(output, known);
    output.after(stage);
    const manager = this.model.widget_manager;
    try {
      known.view = await manager.create_view(await manager.get_model(this.child));
      const widget = known.view.luminoWidget;
      widget.constructor.attach(widget, stage);
      output.hidden = true;
    } catch (error) {
      known.view?.remove();
      stage.remove(); // the picture and the words stay
      console.warn("a widget could not be shown in its frame", error);
    }
  }

  uncover(output) {
    const { stage, view } = this.views.get(output);
    this.views.delete(output);
    if (view) {
      stage.hidden = true;
      document.body.append(stage); // Lumino takes down only what is in the page
      view.remove();
    }
    stage.remove();
    output.hidden = false;
  }

  destroy() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    for (const output of this.views.keys()) this.uncover(output);
  }
}

export default {
  initialize({ model }) {
    const notebook = model.widget_manager.context?.model; // of JupyterLab and Notebook alone
    model.send({ writes: Boolean(notebook?.cells) });
    if (!notebook?.cells) return;
    const frame = new Frame(model, notebook);
    return () => frame.destroy();
  },
};
