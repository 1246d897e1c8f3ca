// JupyterLab shows a figure's picture, drawn on white, until someone points at it: here it fits the page and its theme.
// An extension, since no output of a cell could style the figures of all notebooks; by hand, since it is one style.
const STYLE = `
.jp-RenderedPlotly { overflow-x: auto; }
.jp-RenderedPlotly .plot-img { max-width: 100%; height: auto; }
[data-jp-theme-light="false"] .jp-RenderedPlotly .plot-img { filter: invert(0.92) hue-rotate(180deg); }
`;

const load = () => {
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  return {}; // a module, as JupyterLab wants one
};

(window._JUPYTERLAB ??= {})["lepton-lab"] = { init() {}, get: async () => load };
