"""What a keyboard does on our controls, in a real JupyterLab: each key stays there, and one sees where one is."""

import pytest

from .conftest import opening
from .jupyter import wait_for

pytestmark = pytest.mark.browser

CELLS = (
    "import lepton_lab as lab\nfrom lepton_widgets import Compression, Learner, Workbench\n"
    "run = lab.launch(lab.Spec(model='mlp', epochs=1))\nprint(run.wait(60))",
    "bench = Workbench(model='mlp', world=2)\nbench",
    "Compression(run)",
    "Learner()",
    "run",
)
WIDGETS = (".ll-panel", ".ll-shelf", ".ll-live", ".ll-learner", ".ll-range")
CONTROLS = ":is(input, select, textarea, button, summary, [tabindex='0']):not(:disabled)"
COMMANDS = ("m", "b", "a", "y", "x", "c", "v", "z", "r", "j", "k", "1", "0", "0", "i", "i", "d", "d", "Shift+m")
"""In JupyterLab's command mode: to Markdown, insert, cut, paste, undo, move, restart, interrupt, delete, merge."""
RUNNING = ("Shift+Enter", "Control+Enter", "Alt+Enter", "Control+z", "Control+a", "Control+Shift+m")
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")


@pytest.fixture(scope="module")
def book(browser, jupyter, desks, request):
    with opening(browser, jupyter, desks, request.node) as notebook:
        opened = notebook(*CELLS)
        opened.run_all()
        opened.page.locator(".ll-table tbody tr").first.wait_for()
        opened.page.get_by_role("button", name="More settings").click()
        opened.page.get_by_role("checkbox", name="Overlay run").first.check()
        wait_for(lambda: opened.page.locator(".ll-live").count() == 2, "no overlay came")
        yield opened


def cells(page):
    """Kind and source of each cell, which of them hold a widget, and the kernel."""
    return page.evaluate(
        """() => {
          const panel = window.jupyterapp.shell.currentWidget, {widgets} = panel.content;
          const shows = (cell) => !!cell.node.querySelector(".ll-root");
          const about = (cell) => [cell.model.type, cell.model.sharedModel.source, shows(cell)];
          const dialogs = document.querySelectorAll(".jp-Dialog").length;
          return [widgets.map(about), panel.sessionContext.session.kernel.id, dialogs];
        }"""
    )


FOCUS = f"""(control) => {{
  if (!control.isConnected || control.disabled) return null;  // a legend that was drawn anew meanwhile
  control.focus();
  return [control.type ?? control.localName, {list(WIDGETS)}.filter((widget) => control.closest(widget))];
}}"""
"""Gives the kind of a control and the widgets that it is in."""


@pytest.mark.slow
def test_a_key_on_a_control_is_no_command_to_the_cell(book):
    page = book.page
    before = cells(page)
    assert len(before[0]) == len(CELLS) and sum(cell[2] for cell in before[0]) == 4
    model = page.get_by_role("combobox", name="Model").first
    model.focus()
    page.keyboard.press("c")
    assert model.input_value() == "cnn", "a letter chooses, as in any list"
    seen = {widget: set() for widget in WIDGETS}
    for control in page.locator(f".ll-root {CONTROLS}:visible").element_handles():
        if (about := control.evaluate(FOCUS)) is None:
            continue
        kind, place = about
        # One of its kind has had them all, and one of each widget around it: one that would insert a cell will do.
        if any(kind in kinds for kinds in seen.values()) and all(seen[widget] for widget in place):
            page.keyboard.press("b")
            continue
        for widget in place:
            seen[widget].add(kind)
        for key in COMMANDS + (RUNNING if kind not in ("button", "submit") else ()):
            control.evaluate(FOCUS)
            page.keyboard.press(key)
        assert cells(page) == before, f"{kind} of {place} let a key through"
    assert cells(page) == before, "a control let a key through"
    assert {kind for kinds in seen.values() for kind in kinds} >= {
        "button", "checkbox", "range", "select-one", "submit", "text",
    }  # fmt: skip
    assert all(seen.values()), f"no control was tried in {seen}"

    model.focus()
    page.keyboard.press("Control+s")
    clean = "() => !window.jupyterapp.shell.currentWidget.context.model.dirty"
    wait_for(lambda: page.evaluate(clean), "the notebook can't be saved from a control")
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.matches('.jp-Cell')"), "Escape leads nowhere"
    page.keyboard.press("b")
    wait_for(lambda: len(cells(page)[0]) == len(CELLS) + 1, "the cell takes no commands any more")


def test_the_focus_is_seen_on_every_control_in_every_theme(book):
    page = book.page
    page.keyboard.press("Tab")  # from here on the page is one that is worked by keyboard
    look = """(selector) => [...document.querySelectorAll(`.ll-root ${selector}`)].map((control) => {
      if (!control.checkVisibility() || !control.getClientRects().length) return null;
      control.focus();
      const {outlineStyle, outlineWidth, outlineColor} = getComputedStyle(control);
      const probe = control.closest(".ll-root").appendChild(document.createElement("i"));
      probe.style.cssText = matchMedia("(forced-colors: active)").matches
        ? "forced-color-adjust: none; color: Highlight" : "color: var(--ll-accent)";
      const accent = getComputedStyle(probe).color;
      probe.remove();
      const seen = document.activeElement === control && outlineStyle === "solid" && parseFloat(outlineWidth) >= 2;
      const found = `${control.outerHTML.slice(0, 90)}: ${outlineStyle} ${outlineWidth} ${outlineColor}`;
      return seen && outlineColor === accent ? "" : found;
    }).filter((why) => why != null)"""
    for theme, colors in [*((theme, "none") for theme in THEMES), ("JupyterLab Light", "active")]:
        book.command("apputils:change-theme", theme=theme)
        page.emulate_media(forced_colors=colors)
        page.wait_for_timeout(500)
        all_drawn = lambda: len(drawn := page.evaluate(look, CONTROLS)) > 50 and drawn  # noqa: E731
        found = wait_for(all_drawn, "the controls were not drawn")
        assert [why for why in found if why] == [], f"{theme}, forced colours {colors}"
    book.shoot("focus", ".ll-workbench")
    look = """([launch, more, select]) => {
      const [first, second] = [getComputedStyle(launch), getComputedStyle(more)];
      return [first.color !== first.backgroundColor, first.backgroundColor !== second.backgroundColor,
        getComputedStyle(select).appearance !== "none"];
    }"""
    controls = [page.query_selector(selector) for selector in (".ll-launch", ".ll-more", ".ll-form select")]
    assert page.evaluate(look, controls) == [True] * 3, (
        "in forced colours a word, Launch's ground or an arrow is not drawn"
    )
