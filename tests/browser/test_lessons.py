"""The lessons as a student goes through them: cell by cell in a real JupyterLab, with wrong answers and right ones."""

import ast
import json
import re

import pytest
from helpers import ROOT

from .jupyter import serving, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

NOTEBOOKS = ROOT / "notebooks"
LESSONS = [path for number in ("00", "01", "02", "04") for path in NOTEBOOKS.glob(f"{number}_*.ipynb")]
GUIDED = [path for path in LESSONS if "lessons.begin" in path.read_text()]
RUN = """async (index) => {
  const book = window.jupyterapp.shell.currentWidget.content;
  book.activeCellIndex = index;
  await window.jupyterapp.commands.execute("notebook:run-cell");
  return (book.widgets[index].model.outputs?.toJSON() ?? []).map(
    (o) => ({ kind: o.output_type, text: [o.text ?? o.evalue ?? o.data?.["text/plain"] ?? ""].flat().join("") }));
}"""
WRITE = """([index, source]) =>
  window.jupyterapp.shell.currentWidget.content.widgets[index].model.sharedModel.setSource(source)"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A server whose kernels take small sizes, as in the suite's other walk through the notebooks."""
    with serving(tmp_path_factory.mktemp("jupyter"), LEPTON_LAB_PROFILE="smoke") as server:
        yield server


def cells(path):
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]


def truth(source):
    """What an exercise's cell holds an answer against, as code for that cell."""
    name, known = re.search(r'exercise\("(.*?)", answer,? ?(.*)\)', source).groups()
    return f"__import__('lepton_widgets').exercises.EXERCISES[{name!r}].truth({known})"


def answered(book, index, source, answer):
    """What the exercise says to an answer, given as code."""
    changed, count = re.subn(r"^answer = .*$", f"answer = {answer}", source, flags=re.MULTILINE)
    assert count == 1, source
    book.page.evaluate(WRITE, [index, changed])
    return "".join(output["text"] for output in book.page.evaluate(RUN, index))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_student_goes_through(path, notebook):
    book = notebook(path=path)
    exercises = 0
    for index, (kind, source) in enumerate(cells(path)):
        if kind != "code":
            continue
        outputs = book.page.evaluate(RUN, index)
        assert not [output for output in outputs if output["kind"] == "error"], (source, outputs)
        if "exercise(" in source:
            exercises += 1
            assert "Waits for your answer" in "".join(output["text"] for output in outputs)
            wrong = answered(book, index, source, f"3 * ({truth(source)}) + 1")
            assert "Not yet: " in wrong and "Hint: " in wrong
            assert re.search("^Right", answered(book, index, source, truth(source)), re.MULTILINE)
    assert exercises >= (0 if path.name.startswith("00") else 2)
    views = book.page.locator(".ll-live")
    for index in range(views.count()):
        wait_for(lambda index=index: views.nth(index).get_attribute("data-state") != "running", "a run goes on")
        wait_for(lambda index=index: book.points(index), f"view {index} of {views.count()} drew nothing")
    look(book, path.stem)
    assert book.complaints == []


def look(book, name):
    """Pictures of the whole page, in light, in dark and narrow."""
    page = book.page
    page.set_viewport_size({"width": 1280, "height": 12_000})
    page.locator(".jp-Cell").first.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    book.shoot(f"{name}-light", ".jp-Notebook")
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_timeout(1500)
    book.shoot(f"{name}-dark", ".jp-Notebook")
    page.set_viewport_size({"width": 690, "height": 12_000})
    page.wait_for_timeout(1000)
    book.shoot(f"{name}-narrow", ".jp-Notebook")
    book.command("apputils:change-theme", theme="JupyterLab Light")


def names(source, context):
    """Names that a cell reads (ast.Load) or makes (ast.Store)."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return {node.id for node in found if isinstance(node.ctx, context)}


@pytest.mark.parametrize("path", GUIDED, ids=lambda path: path.stem)
def test_a_cell_out_of_order_says_which_cell_it_needs(path, notebook):
    book = notebook(path=path)
    listed = cells(path)
    headings = re.findall(r"^#+ +(.+)$", "\n".join(text for kind, text in listed if kind != "code"), re.MULTILINE)
    code = [(index, source) for index, (kind, source) in enumerate(listed) if kind == "code"]
    made = set().union(*(names(source, ast.Store) for _, source in code))
    last = [i for i, source in code if names(source, ast.Load) & made - names(source, ast.Store)][-1]
    book.page.evaluate(RUN, next(index for index, source in code if "lessons.begin" in source))
    said = book.page.evaluate(RUN, last)[-1]
    assert said["kind"] == "error" and "is not there yet" in said["text"], said
    assert any(f"“{heading}”" in said["text"] for heading in headings), said
    assert book.complaints == []
