// Elements, numbers and colours that the widgets share.

const h = (tag, props = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== ""));
  return element;
};

// The same of SVG.
const vector = (tag, props, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) if (value != null && value !== "") element.setAttribute(name, value);
  element.append(...children);
  return element;
};

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const groupedFormat = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const grouped = (value) => groupedFormat.format(value);
const digitsFormat = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

// `step`: distance of the ticks, so that they all show the same digits; without it four digits.
const plain = (value, step) => {
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  if (!step) return digitsFormat.format(value);
  return value.toLocaleString("en", { minimumFractionDigits: decimals(step), maximumFractionDigits: decimals(step) });
};
const decimals = (step) => Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
const percent = (value, step) => `${(100 * value).toFixed(step ? Math.max(0, decimals(step) - 2) : 2)} %`;

// How a metric's figures are written; the heads of columns begin with a capital.
const formatOf = ({ fraction }) => (fraction ? percent : plain);
const headOf = ({ label }) => label[0].toUpperCase() + label.slice(1);
// Figures that a view lists, of some splits, each with its metric.
const listedOf = ({ drawn, listed }, ...splits) =>
  listed.filter(({ split }) => splits.includes(split)).map((f) => ({ ...drawn.find(({ name }) => name === f.metric), ...f }));

const duration = (seconds) => {
  if (seconds == null) return "–";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const two = (value) => String(value).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)}`;
  return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
};
const bytes = (value) => {
  if (value == null) return "–";
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${Math.round(value / 1e6)} MB`;
};

// Those of the finished charts (charts/drawing.py), and the same paler for a dark page.
const PALETTE = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B8558F", "#B97A00", "#2E8FC9", "#6A4FC0", "#5B6B80"],
  dark: ["#56A8E8", "#F2884B", "#3CC79A", "#E59AC6", "#E6B04A", "#8AD0F5", "#A99AF5", "#9FB0C6"],
};
const TERMINAL = ["done", "stopped", "failed", "interrupted"];

const badge = (state) => h("span", { class: "ll-badge", "data-state": state }, state);

// Whether text is light, so the ground dark; a canvas reads whatever notation the colour has.
const isLight = (color) => {
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  pen.fillStyle = color;
  pen.fillRect(0, 0, 1, 1);
  const [red, green, blue] = pen.getImageData(0, 0, 1, 1).data;
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
};

// The colours of the page's theme, light or dark, whoever set it. The element must be in the page.
const readTheme = (element) => {
  const style = getComputedStyle(element);
  const dark = isLight(style.color);
  element.dataset.theme = dark ? "dark" : "light";
  const variable = (name) => getComputedStyle(element).getPropertyValue(name).trim();
  return {
    palette: dark ? PALETTE.dark : PALETTE.light,
    text: style.color,
    muted: variable("--ll-muted"),
    grid: variable("--ll-grid"),
    mark: variable("--ll-mark"),
    select: variable("--ll-select"),
    background: variable("--ll-background"),
    faint: dark ? 0.32 : 0.28,
    font: `11px ${style.fontFamily}`,
  };
};

// Calls back when the page's theme changes; returns the way to stop.
const onThemeChange = (callback) => {
  const observer = new MutationObserver(callback);
  const attributeFilter = ["class", "style", "data-jp-theme-name", "data-jp-theme-light"];
  for (const node of [document.documentElement, document.body]) observer.observe(node, { attributeFilter });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", callback);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", callback);
  };
};

// Calls back when the page goes on after it stood still, as that of a laptop that slept: what the kernel sent meanwhile may
// be lost, so a view asks for it. Returns the way to stop.
const ASLEEP = 15000; // ms without a tick
const AGAIN = [0, 5000, 20000]; // ms after which it asks: the connection may be back later than the page
const onWake = (callback) => {
  let last = Date.now(), stood = false, timers = [];
  const ask = () => {
    try {
      callback();
    } catch {
      // The view's kernel has gone, and nobody is there to be asked.
    }
  };
  const wake = () => {
    stood = false;
    timers.forEach(clearTimeout);
    timers = AGAIN.map((delay) => setTimeout(ask, delay));
  };
  const tick = () => {
    stood ||= Date.now() - last > ASLEEP;
    last = Date.now();
    if (stood && !document.hidden) wake(); // a page in the background has few ticks
  };
  const ticks = setInterval(tick, ASLEEP / 5);
  const listeners = [[document, "resume", wake], [document, "visibilitychange", tick], [window, "online", wake]];
  for (const [target, event, listener] of listeners) target.addEventListener(event, listener);
  return () => {
    clearInterval(ticks);
    timers.forEach(clearTimeout);
    for (const [target, event, listener] of listeners) target.removeEventListener(event, listener);
  };
};

// Keys that are pressed on our controls stay there: JupyterLab's command mode would take an "m" for "turn this cell into
// Markdown". It has no shortcuts on an element with this attribute; its rules match what has the focus, so an ancestor's
// would not do. Those with Ctrl, Cmd or Alt are left to it (save, the palette), but for the few that run, merge or undo
// cells. Escape leads back to the cell.
const SHIELD = "data-lm-suppress-shortcuts";
const isOurs = ({ key, ctrlKey, metaKey, altKey }) =>
  ctrlKey || metaKey || altKey ? /^(Enter|Backspace|Arrow\w+|Home|End|[amyz])$/i.test(key) : !/^F\d/.test(key);
const isControl = ({ target }) => target instanceof Element && !!target.closest(".ll-root");

// Of all our modules the first that is loaded listens, for ipywidgets' controls in our boxes too.
if (!window.leptonKeys) {
  window.leptonKeys = true;
  const shield = (event) => isControl(event) && event.target.toggleAttribute(SHIELD, isOurs(event));
  window.addEventListener("keydown", shield, true); // before JupyterLab, which listens to the document
  window.addEventListener("keydown", (event) => {
    const leaves = event.key === "Escape" && !event.defaultPrevented && isControl(event);
    if (leaves) event.target.closest(".jp-Cell")?.focus();
  });
}
