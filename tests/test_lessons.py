"""Self-checks of exercises, and what a cell that is run too early says: in a real kernel."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from lepton_widgets import lessons
from nbclient import NotebookClient

from lepton_lab.reports import NOTEBOOKS
from lepton_lab.spec import SpecError

LESSONS = ["00_start_here", "01_optimizers", "02_strategies", "03_compression"]


def cells_of(lesson):
    cells = json.loads((NOTEBOOKS[0] / f"{lesson}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def cell_with(lesson, text):
    return next(source for source in cells_of(lesson) if text in source)


STRANGER = """import types
other = types.ModuleType("other")
exec("def f(): return spec", vars(other))
other.f()"""
STORY = {
    "begin": 'from lepton_widgets import lessons\nlessons.begin("02_strategies")',
    "too early": cell_with("02_strategies", 'name="by hand"'),
    "changed": cell_with("02_strategies", "zero = lab.launch").replace("kB", "kilobytes") + "\n# mine",
    "foreign": "print(ddp)",
    "made": "lab = 1\nlab + 1",
    "next": cell_with("02_strategies", "charts.placement(spec.replace("),
    "no lesson's": "undefined_by_all",
    "a bug": "def f():\n    if False:\n        spec = 1\n    return spec\nf()",
    "elsewhere": STRANGER,
    "another kind": "1 / 0",
    "empty": 'lessons.exercise(None, 4, "two and two.")',
}


@pytest.fixture(scope="module")
def said():
    """What each cell of the story says, one after the other in one kernel."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in STORY.values()])
    NotebookClient(book, timeout=60, allow_errors=True, kernel_name="python3").execute()
    return dict(zip(STORY, ([dict(output) for output in cell.outputs] for cell in book.cells), strict=True))


def error(outputs):
    (found,) = (output for output in outputs if output["output_type"] == "error")
    return found


def test_a_cell_run_too_early_names_the_cell_it_needs(said):
    assert [list(output["data"]) for output in said["begin"]] == [["text/html", "text/plain"]]  # a style, no words
    found = error(said["too early"])
    assert found["ename"] == "NameError"
    assert found["evalue"].startswith(
        "`lab` is not there yet: run the first cell under “Strategies: one training, split"
    )
    assert "Run All Above" in found["evalue"]
    assert found["traceback"] == [f"NameError: {found['evalue']}"]  # one sentence, no frames


def test_a_cell_that_the_reader_changed_is_helped_as_well(said):
    assert "run the first cell under “Strategies" in error(said["changed"])["evalue"]


def test_a_cell_of_the_reader_s_own_is_helped_as_well(said):
    assert error(said["foreign"])["evalue"] == (
        "`ddp` is not there yet: run the second cell under “Data parallel, by hand” first."
    )


def test_in_a_fresh_kernel_the_first_cell_is_named():
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell_with("02_strategies", 'name="by hand"'))])
    as_jupyter_s_server = {**os.environ, "JPY_SESSION_NAME": "notebooks/02_strategies.ipynb"}
    client = NotebookClient(book, timeout=60, allow_errors=True, kernel_name="python3")
    client.execute(env=as_jupyter_s_server)
    assert error(book.cells[0].outputs)["evalue"].startswith("`lab` is not there yet: run the first cell under")


def test_a_name_that_is_there_is_not_asked_for_again(said):
    assert "`charts` is not there yet" in error(said["next"])["evalue"]


@pytest.mark.parametrize("name", ["no lesson's", "a bug", "elsewhere", "another kind"])
def test_other_errors_stay_as_they_are(said, name):
    found = error(said[name])
    assert "not there yet" not in found["evalue"]
    assert len(found["traceback"]) > 1


def test_an_empty_exercise_does_not_fail(said):
    assert said["empty"][0]["text"] == "Still empty. Hint: two and two.\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "Still empty. Hint: two and two."),
        (..., "Still empty. Hint: two and two."),
        (4, "Right: 4."),
        (4.3, "Right: 4."),
        (4.5, "Not yet: 4.5 is too much. Hint: two and two."),
        (-4, "Not yet: -4 is too little. Hint: two and two."),
        (float("nan"), "Not yet: nan is no number. Hint: two and two."),
        ("four", "Not yet: 'four' is no number. Hint: two and two."),
        ([4], "Not yet: [4] is no number. Hint: two and two."),
        (10**400, "Not yet: 1000000000000000000000000000000000000000 is no number. Hint: two and two."),
    ],
)
def test_exercise(capsys, answer, says):
    lessons.exercise(answer, 4, "two and two.")
    assert capsys.readouterr().out == says + "\n"


def test_exercise_takes_tensors(capsys):
    import torch

    lessons.exercise(torch.tensor(4), torch.tensor(4), "", within=0)
    lessons.exercise(torch.ones(2), 4, "one.")
    assert capsys.readouterr().out == "Right: 4.\nNot yet: tensor([1., 1.]) is no number. Hint: one.\n"


def test_a_lesson_that_is_not_there():
    with pytest.raises(SpecError, match=r"lesson='02_strategy': .*02_strategies"):
        lessons.begin("02_strategy")


def test_outside_of_a_notebook_nothing_is_done():
    lessons.begin("01_optimizers")


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_begins_itself_and_says_how_long_it_takes(lesson):
    cells = json.loads((NOTEBOOKS[0] / f"{lesson}.ipynb").read_text())["cells"]
    assert f'lessons.begin("{lesson}")' in cells_of(lesson)[0]
    assert "lab.parameters(globals()" in cells_of(lesson)[2]
    assert "on two cores" in "".join(cells[0]["source"])
    end = "".join(cells[-1]["source"])
    assert end.startswith("## What you learned") and ".ipynb)" in end


def test_the_help_costs_no_torch():
    code = (
        "import sys; from lepton_widgets import lessons; lessons.read('01_optimizers'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "False\n", done.stderr
