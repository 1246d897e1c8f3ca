"""The workbench as a person uses it: a real JupyterLab in a real browser."""

import re

import pytest
from helpers import ROOT

from .jupyter import wait_for

pytestmark = pytest.mark.browser

FORM = """import time
from lepton_widgets import Workbench
bench = Workbench(world={world}, epochs=400, hooks=[lambda moment: time.sleep(0.01)])
bench"""
START_HERE = ROOT / "notebooks" / "00_start_here.ipynb"


def last_step(page) -> int:
    return int(page.locator(".ll-live").last.get_attribute("data-last") or 0)


def test_launch_steer_reload(notebook):
    book = notebook(FORM.format(world=2), "print('free:', 6 * 7)")
    page = book.page
    book.run_all()
    count = "import lepton_lab as lab\nprint(len(lab.runs()))"
    before = int(book.run(count))
    page.get_by_role("button", name="Launch", exact=True).dblclick()
    book.wait_state("running")
    assert int(book.run(count)) == before + 1, "a double click is one launch"
    seen = wait_for(book.points, "no point was drawn")
    wait_for(lambda: book.points() > seen, "the curve does not grow")
    wait_for(lambda: page.locator(".ll-live .ll-times").count() == 2, "where the time goes is not shown")
    assert book.run("print('free:', 6 * 7)") == "free: 42\n"
    assert page.locator(".ll-live").last.get_attribute("data-state") == "running", "the cell waited for the run"

    rate = page.get_by_role("textbox", name="Learning rate of the running job")
    rate.fill("5e-4")
    page.get_by_role("button", name="Set the learning rate").click()
    wait_for(lambda: "0.0005" in book.run("print(bench.run.rows('note'))"), "the new rate is not in the events")
    rate.fill("2.5e-4")
    rate.press("Enter")
    wait_for(lambda: "0.00025" in book.run("print(bench.run.rows('note'))"), "Enter did not set the rate")

    page.get_by_role("button", name="Pause").click()
    book.wait_state("paused")
    page.get_by_role("button", name="Resume").click()
    book.wait_state("running")
    page.get_by_role("button", name="Stop").click()
    book.wait_state("stopped")

    whole = int(book.run("print(len(bench.run.rows('train')) // 2)"))
    wait_for(lambda: last_step(page) == whole, "the end of the curve is missing")
    points = book.points()
    book.reload()
    wait_for(lambda: book.points() == points, f"after the reload {book.points()} points of {points}")
    assert book.complaints == []


def test_kernel_restart_and_attach(notebook):
    book = notebook(FORM.format(world=1))
    book.run_all()
    book.page.get_by_role("button", name="Launch", exact=True).click()
    book.wait_state("running")
    wait_for(lambda: book.points() > 100, "the curve does not grow")
    book.restart_kernel()
    said, links, dimmed = dead_workbench(book.page)
    assert [text.split(" has lost its kernel")[0] for text in said] == ['"This form', '"This view', '"This table']
    assert links == ["none"], "broken links are drawn"
    assert dimmed
    book.shoot("lost-kernel", ".ll-workbench")
    run = "import lepton_lab as lab\nrun = lab.attach()\nprint(run.state)"
    assert book.run(run) == "running\n", "the run died with its kernel"
    book.run("run")
    book.wait_state("running")
    points = wait_for(book.points, "nothing is drawn after the restart")
    wait_for(lambda: book.points() > points, "the curve does not go on after the restart")
    first = book.page.evaluate(
        "() => [...document.querySelectorAll('.ll-live')].at(-1).querySelector('.ll-chart').ariaLabel"
    )
    assert "Training" in first
    book.page.get_by_role("button", name="Stop").last.click()
    book.wait_state("stopped")
    assert book.complaints == []


def dead_workbench(page) -> list:
    """What form, view and shelf say of themselves, how broken links are drawn, and whether the form is dimmed."""
    return page.locator(".ll-workbench").evaluate(
        """(bench) => {
          const style = (element, part) => getComputedStyle(element, part);
          const find = (selector) => bench.querySelector(selector);
          const all = [bench, ...bench.querySelectorAll(".jupyter-widgets-disconnected")];
          const parts = [".ll-panel", ".ll-live .ll-head", ".ll-shelf .ll-head"];
          return [parts.map((part) => style(find(part), "::after").content),
            [...new Set(all.map((widget) => style(widget, "::before").display))],
            [".ll-form", ".ll-actions"].every((part) => style(find(`.ll-panel ${part}`)).opacity < 1)];
        }"""
    )


@pytest.mark.slow  # the test of a busy kernel looks for holes
def test_reload_while_it_runs(notebook):
    book = notebook(FORM.format(world=1))
    book.run_all()
    book.page.get_by_role("button", name="Launch", exact=True).click()
    book.wait_state("running")
    wait_for(lambda: book.points() > 100, "the curve does not grow")
    before = last_step(book.page)
    book.reload()
    wait_for(lambda: last_step(book.page) > before, "the curve does not go on after the reload")
    wait_for(
        lambda: book.points() >= 2 * last_step(book.page),  # loss and accuracy of every step, and the evaluations
        "the curve has a hole",
    )


@pytest.mark.slow  # for a person to look at
def test_looks(notebook):
    """Pictures in light, dark and narrow (kept under LEPTON_LAB_SCREENSHOTS), and no control without a name."""
    book = notebook(
        "from lepton_widgets import Workbench\nbench = Workbench(world=2, epochs=2, schedule='cosine')\nbench"
    )
    page = book.page
    page.emulate_media(reduced_motion="reduce")
    book.run_all()
    page.get_by_role("button", name="Launch", exact=True).click()
    book.wait_state("done")
    page.get_by_role("checkbox", name="Overlay run").first.wait_for()
    book.shoot("light", ".ll-workbench")
    snapshot = page.locator(".ll-workbench").last.aria_snapshot()
    for line in snapshot.splitlines():
        role = line.strip(" -'").split(" ")[0].rstrip(":")
        if role in {"button", "textbox", "combobox", "checkbox", "slider", "progressbar", "table", "img"}:
            assert '"' in line, f"without a name: {line}"
    for name in ("Data set", "Optimizer", "Learning rate", "Epochs", "Batch size", "Workers", "Precision", "Seed"):
        assert f'"{name}"' in snapshot
    page.get_by_role("button", name="More settings").click()
    page.get_by_role("textbox", name="Workers").fill("99")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("world=99").wait_for()
    assert page.get_by_role("button", name="Launch", exact=True).is_disabled()
    book.shoot("refused", ".ll-workbench")
    page.get_by_role("textbox", name="Workers").fill("2")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Fewer settings").click()
    page.get_by_role("button", name="Predict its cost").click()
    page.locator(".ll-cost").get_by_text("gradients").wait_for()
    strategies = page.get_by_role("combobox", name="Strategy").locator("option").all_inner_texts()
    assert any(re.fullmatch(r"tensor.*model\scnn", text) for text in strategies), strategies  # and why it can't be
    page.get_by_role("checkbox", name="Overlay run").first.check()
    wait_for(lambda: page.locator(".ll-live").count() == 2, "no overlay came")
    page.get_by_role("checkbox", name="Overlay run").first.uncheck()
    wait_for(lambda: page.locator(".ll-live").count() == 1, "the overlay stayed")
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    wait_for(lambda: page.locator(".ll-live").get_attribute("data-theme") == "dark", "the theme was not read again")
    page.wait_for_timeout(500)
    book.shoot("dark", ".ll-workbench")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 690, "height": 2600})
    page.wait_for_timeout(500)
    assert page.locator(".ll-live").bounding_box()["width"] < 600
    book.shoot("narrow-dark", ".ll-workbench")
    book.command("apputils:change-theme", theme="JupyterLab Light")
    page.wait_for_timeout(800)
    book.shoot("narrow", ".ll-workbench")
    spill = page.locator(".ll-workbench").evaluate("(bench) => bench.scrollWidth - bench.clientWidth")
    assert spill <= 0, "something is cut off at the right"
    assert book.complaints == []


@pytest.mark.slow  # its cells run in test_notebooks, its form and overlays in the tests around
def test_start_here(notebook):
    """The notebook that greets a newcomer runs whole, and its form launches a run beside its cells."""
    book = notebook(path=START_HERE)
    book.run_all()
    errors = book.page.evaluate(
        """() => [...window.jupyterapp.shell.currentWidget.content.widgets].flatMap((cell) =>
          (cell.model.outputs?.toJSON() ?? []).filter((o) => o.output_type === "error").map((o) => o.evalue))"""
    )
    assert errors == []
    book.page.get_by_role("button", name="Launch", exact=True).click()
    book.wait_state("done", index=0)
    wait_for(lambda: book.points(0) > 100, "the form's run is not drawn")
    book.page.get_by_role("checkbox", name="Overlay run steered").last.check()
    book.page.get_by_role("checkbox", name="Overlay run from a cell").last.check()
    wait_for(lambda: book.page.get_by_role("button", name="steered").count(), "no overlay came")
    book.page.wait_for_timeout(300)
    overlay = book.page.locator(".ll-live").last
    overlay.locator(".ll-chart").last.hover()
    book.shoot("overlay", ".ll-live")
    assert book.complaints == []


@pytest.mark.slow  # test_chart looks at every theme
def test_a_chart_survives_a_change_of_theme(notebook):
    """A picture fits a narrow page and a dark theme; what is pointed at keeps its place and size."""
    book = notebook("from lepton_lab import charts\ncharts.curves('A loss', {'it': [3.0, 2.0, 1.0]}, y='loss')")
    page = book.page
    book.run_all()
    picture = page.locator(".plot-img")
    look = lambda: picture.evaluate("(picture) => getComputedStyle(picture).filter")  # noqa: E731
    before = picture.bounding_box()
    assert before["width"] == 720 and look() == "none"
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    wait_for(lambda: "invert" in look(), "a picture stays white on a dark page")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 600, "height": 1800})
    cell = page.locator(".jp-RenderedPlotly")
    right = lambda box: box["x"] + box["width"]  # noqa: E731
    wait_for(lambda: right(picture.bounding_box()) <= right(cell.bounding_box()) < 600, "a picture is cut off")
    shape = picture.bounding_box()
    assert abs(shape["height"] / shape["width"] - before["height"] / before["width"]) < 0.01, "it is squeezed"
    book.shoot("chart-dark-narrow", ".jp-RenderedPlotly")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 1280, "height": 1800})
    book.command("apputils:change-theme", theme="JupyterLab Light")
    wait_for(lambda: picture.bounding_box() == before and look() == "none", "the picture did not come back")
    page.mouse.move(before["x"] + 300, before["y"] + 150)  # hover() would wait for the picture, which goes
    plot = page.locator(".js-plotly-plot .main-svg").first
    plot.wait_for()
    size = lambda: plot.bounding_box()  # noqa: E731
    assert abs(size()["width"] - before["width"]) < 2 and abs(size()["height"] - before["height"]) < 8
    assert abs(size()["x"] - before["x"]) < 2
    book.shoot("chart-interactive", ".js-plotly-plot")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        book.command("apputils:change-theme", theme=theme)
        page.wait_for_timeout(800)
    assert size()["height"] > 300, "the chart folded up"
    assert book.complaints == []


def test_draws_while_its_own_cell_runs(sheet):
    """The page may load the view when the kernel is already busy, and so can't be asked for what was missed."""
    book = sheet
    imports = "import time\nimport lepton_lab as lab\nfrom IPython.display import display\n"
    book.run(imports + "from lepton_widgets import Live")
    launch = "run = lab.launch(lab.Spec(model='mlp', epochs=300), hooks=[lambda moment: time.sleep(0.01)])"
    source = f"{launch}\ndisplay(Live(run))\nrun.wait(25)\nprint('waited')"
    book.run(source, wait=False)
    wait_for(book.points, "nothing is drawn while the cell runs")
    seen = book.points()
    wait_for(lambda: book.points() > seen, "the curve does not grow while the cell runs")
    step = last_step(book.page)
    wait_for(lambda: book.points() >= 2 * step, "the curve has a hole")  # loss and accuracy of each step
    assert book.page.get_by_text("waited", exact=True).count() == 0, "the cell was over too early to tell"
    assert book.complaints == []


FAILING = """import torch, lepton_lab as lab
class Fragile(torch.nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(64, classes), 0
    def forward(self, x):
        self.calls += 1
        if self.training and self.calls > 30 and torch.distributed.get_rank() == 1:
            raise ValueError("a bad day")
        return self.layer(x.flatten(1))
lab.launch(lab.Spec(world=2, epochs=50), model=Fragile)"""


def test_failure_card(sheet):
    book = sheet
    book.run(FAILING)
    book.wait_state("failed")
    card = book.page.get_by_role("alert")
    card.get_by_text("Rank 1 failed: ValueError").wait_for()
    text = card.text_content()
    assert "a bad day" in text and "line 9" in text and "rank 0 at step" in text
    book.shoot("failure", ".ll-live")
    assert book.complaints == []


ELSEWHERE = """import lepton_lab as lab
from lepton_widgets import Workbench
bench = Workbench(world=4)
bench"""
MACHINES = [{"host": f"node{i}", "lost": i == 2, "ranks": [2 * i, 2 * i + 1]} for i in range(4)]


def test_a_run_goes_where_the_form_says_and_tells_its_machines(sheet):
    book, page = sheet, sheet.page
    book.run(ELSEWHERE)
    place, nodes = page.get_by_role("combobox", name="Runs on"), page.get_by_role("textbox", name="Nodes")
    place.wait_for()
    assert nodes.count() == 0, "settings are shown of what is not chosen"
    place.select_option(label="torchrun")
    nodes.fill("2:1")
    nodes.press("Enter")
    page.get_by_role("alert").get_by_text("nodes='2:1': must be a number").wait_for()
    book.shoot("place-refused", ".ll-panel")
    nodes.fill("4")
    page.get_by_role("textbox", name="Address").fill("127.0.0.1")
    page.keyboard.press("Enter")
    page.locator(".ll-repeat").get_by_text("on=lab.Torchrun(nodes=4, address='127.0.0.1')").wait_for()
    page.get_by_role("button", name="Launch", exact=True).click()
    view = page.locator(".ll-live").first
    view.locator(".ll-remark").get_by_text("waits for nodes: 0 of at least 4 are there; give on each").wait_for()
    book.run(f"bench.run.store.note(nodes={MACHINES})")
    machines = view.get_by_role("list", name="Machines of the run").get_by_role("listitem")
    told = ["node2lost", "node0ranks 0-1", "node1ranks 2-3", "node3ranks 6-7"]
    wait_for(lambda: machines.all_text_contents() == told, "the machines are not shown")
    row = page.locator(".ll-shelf tbody tr").first
    wait_for(lambda: "node2 lost, node0 with ranks 0-1" in row.inner_text(), "the shelf tells nothing of them")
    book.shoot("place", ".ll-workbench")
    page.set_viewport_size({"width": 690, "height": 2600})
    wait_for(lambda: view.bounding_box()["width"] < 600, "the page is not narrow")
    assert page.locator(".ll-workbench").evaluate("(bench) => bench.scrollWidth <= bench.clientWidth"), "it is cut off"
    book.shoot("place-narrow", ".ll-workbench")
    page.set_viewport_size({"width": 1280, "height": 1800})
    view.get_by_role("button", name="Stop").click()
    book.wait_state("stopped", index=0)
    assert machines.count() == 0 and book.complaints == []


DEAF = """(deaf) => {
  const socket = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel._ws;
  if (deaf) window.hears = socket.onmessage;
  socket.onmessage = deaf ? () => {} : window.hears;
}"""


def test_a_page_that_slept_shows_all_that_it_missed(sheet):
    """Messages are lost until after the end of the run, so that nothing that comes later tells of it."""
    book, page = sheet, sheet.page
    spec = "lab.Spec(model='mlp', epochs=4000)"
    book.run(f"import time\nimport lepton_lab as lab\nlab.launch({spec}, hooks=[lambda moment: time.sleep(0.01)])")
    wait_for(book.points, "nothing is drawn")
    page.evaluate(DEAF, True)
    try:
        book.jupyter.stop_runs()
        page.wait_for_timeout(1000)  # by when the kernel has told the end
        assert page.locator(".ll-live").last.get_attribute("data-state") != "stopped", "the page hears"
    finally:
        page.evaluate(DEAF, False)
    # As Chromium says it of a page that it had frozen; told to freeze one in sight, it does not always do so.
    page.evaluate("document.dispatchEvent(new Event('resume'))")
    book.wait_state("stopped")
    whole = int(book.run("print(len(lab.attach().rows('train')))"))
    wait_for(lambda: book.points() >= 2 * whole, "the curve has a hole")  # loss and accuracy of each step
    assert last_step(page) == whole and book.complaints == []


SHELF = """import os
import lepton_lab as lab
from lepton_lab.files import home
from lepton_lab.store.folder import RunFolder
from lepton_widgets import Shelf
os.environ["LEPTON_LAB_HOME"] = str(home() / "shelf")  # without the runs of the tests before
for i in range(150):
    folder = RunFolder.create(lab.Spec(model="mlp" if i % 2 else "cnn", lr=(i + 1) / 1000, name=f"many-{i}"))
    folder.set_state("done")
shelf = Shelf()
shelf"""


def test_shelf(sheet):
    """150 runs are sorted, searched, named, archived and deleted, by mouse and by keyboard."""
    book, page = sheet, sheet.page
    book.run(SHELF)
    table = page.locator(".ll-shelf")
    rows = table.locator("tbody tr")
    wait_for(lambda: "150" in table.locator(".ll-note").inner_text(), "not all runs came")
    assert rows.count() == 100, "a long table is shown in parts"
    first = lambda: rows.first.locator(".ll-run").inner_text()  # noqa: E731
    table.get_by_role("button", name="Optimizer").click()
    wait_for(lambda: first() == "many-0", "it is not sorted by the learning rate")
    table.get_by_role("button", name="Optimizer").press("Enter")
    wait_for(lambda: first() == "many-149", "it is not sorted the other way")
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("Optimizer")
    columns = table.get_by_role("group", name="Columns shown").get_by_role("button")
    assert columns.all_inner_texts() == ["Loss", "Accuracy"]
    table.get_by_role("button", name="Test accuracy").click()
    columns.last.click()
    wait_for(lambda: "accuracy" not in table.locator("thead").inner_text(), "the chips do not choose")
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("Begun")
    table.get_by_role("button", name="Optimizer").click()
    table.get_by_role("button", name="Optimizer").click()
    wait_for(lambda: first() == "many-149", "other columns do not sort")
    table.get_by_role("searchbox", name="Search runs").fill("mlp many-14")
    wait_for(lambda: "of 150" in table.locator(".ll-note").inner_text(), "nothing was searched")
    names = rows.locator(".ll-run").all_inner_texts()
    assert len(names) == 5 and all(name.startswith("many-14") for name in names), names  # 141, 143, ... 149
    table.get_by_role("button", name="Edit run many-149").press("Enter")
    form = table.get_by_role("form", name="Edit run many-149")
    form.get_by_role("textbox", name="Tags").fill("paper, best")
    form.get_by_role("textbox", name="Name").fill("many-14 renamed")
    form.get_by_role("textbox", name="Name").press("Enter")
    table.get_by_text("many-14 renamed").wait_for()
    assert "paper" in table.get_by_role("row", name="many-14 renamed").inner_text()
    book.shoot("shelf", ".ll-shelf")
    table.get_by_role("button", name="Edit run many-147").click()
    table.get_by_role("button", name="Archive", exact=True).click()
    wait_for(lambda: "149" in table.locator(".ll-note").inner_text(), "it was not archived")
    table.get_by_role("button", name="Edit run many-145").click()
    table.get_by_role("button", name="Delete", exact=True).click()
    keep = table.get_by_role("button", name="Keep")
    assert keep.evaluate("(button) => button === document.activeElement"), "Enter would delete"
    assert "150" in book.run("print(len(lab.runs()))"), "it was deleted without a question"
    table.get_by_role("button", name="Delete it for good").click()
    wait_for(lambda: "148" in table.locator(".ll-note").inner_text(), "it was not deleted")
    assert "149" in book.run("print(len(lab.runs()))")
    assert book.complaints == []
