"""Self-checks of exercises, and what a cell that is run too early says: in a real kernel."""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers import Late
from lepton_widgets import lessons
from lepton_widgets.exercises import EXERCISES

from lepton_lab.charts.series import number
from lepton_lab.errors import SpecError
from lepton_lab.files import NOTEBOOKS

nbclient, nbformat = Late("nbclient"), Late("nbformat")
LESSONS = ["00_start_here", "01_optimizers", "02_strategies", "03_compression", "04_your_own_work", "05_data"]


def cells_of(lesson):
    cells = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text())["cells"]
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
    "empty": 'lessons.exercise("03.1", None)',
}


@pytest.fixture(scope="module")
def said():
    """What each cell of the story says, one after the other in one kernel."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in STORY.values()])
    nbclient.NotebookClient(book, timeout=60, allow_errors=True, kernel_name="python3").execute()
    return dict(zip(STORY, ([dict(output) for output in cell.outputs] for cell in book.cells), strict=True))


def error(outputs):
    (found,) = (output for output in outputs if output["output_type"] == "error")
    return found


def test_a_cell_run_too_early_names_the_cell_it_needs(said):
    assert said["begin"] == []
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
    client = nbclient.NotebookClient(book, timeout=60, allow_errors=True, kernel_name="python3")
    client.execute(env=as_jupyter_s_server)
    assert error(book.cells[0].outputs)["evalue"].startswith("`lab` is not there yet: run the first cell under")


def test_a_name_that_is_there_is_not_asked_for_again(said):
    assert "`charts` is not there yet" in error(said["next"])["evalue"]


@pytest.mark.parametrize("name", ["no lesson's", "a bug", "elsewhere", "another kind"])
def test_other_errors_stay_as_they_are(said, name):
    found = error(said[name])
    assert "not there yet" not in found["evalue"]
    assert len(found["traceback"]) > 1


EMPTY = "Waits for your answer: put it in place of None, and run the cell again."

# What each exercise's cell may know; and naive wrong answers, with the slip that leads to them.
KNOWN = {
    "01.1": {"samples": 1439},
    "01.2": {"output": 0.9, "target": 1.0, "hidden": 0.7},
    "01.4": {"curvatures": [3.1, 0.4]},
    "02.1": {"numbers": 4810, "ranks": 2},
    "03.2": {"m": 64, "n": 1024},
}
WRONG = {
    "01.1": {"rounded down": 44, "not rounded": 1439 / 32, "one too many": 46, "multiplied": 1439 * 32},
    "01.2": {"without the 2": -0.07, "sign": 0.14, "without the hidden unit": -0.2, "the loss": 0.01},
    "01.3": {"times the gradient": 10, "no correction": 0.0316, "the gradient": 1000, "in lr": 1},
    "01.4": {"the flat direction": 5, "1 / c": 0.3226, "the mean": 2 / 1.75, "the curvature": 3.1},
    "01.5": {"the variance": 2 / 512, "Xavier's": 512**-0.5, "not halved": 512**0.5, "half": (1 / 1024) ** 0.5},
    "01.6": {"rounded down": 6, "not rounded": 6.4, "a divisor": 8, "samples": 80},
    "02.1": {"parameters": 4810, "two ways, not halved": 8 * 4810, "bits": 32 * 4810, "half": 2 * 4810},
    "02.2": {"m + 3": 30, "n = 4 of 0.1": 40, "one more": 28, "one less": 26},
    "02.3": {"no delay": 2, "one step old": 1, "three steps old": 0.445, "2 / (d + 1)": 2 / 3, "1 / d": 0.5},
    "03.1": {"one side only": 2, "outputs and inputs, twice": 8, "kernel too": 16, "the other way": 0.25},
    "03.2": {"the last that pays": 60, "not rounded": 64 * 1024 / 1088, "full rank": 64, "half": 32, "one more": 62},
    "04.1": {"what is real": 20 / 44, "in per cent": 54.5, "of the shortest": 0.82, "each alone": 0.75, "rounded": 0.5},
    "04.2": {"mean of means": 7 / 3, "sum of means": 7, "sum": 26, "over pieces": 26 / 3},
    "04.3": {"hidden once": 0.85, "ever hidden": 1 - 0.85**10, "all ten times": 0.15**10, "ten times 0.15": 1.5},
    "04.4": {"one of both": 0.6931, "logarithm of base 2": 2, "sign": -1.3863, "probability": 0.25},
    "05.1": {"what the others have": 0.9, "what is known": 0.2, "mean of both": 0.95, "others alone": 0.72},
    "05.2": {"how many differ": 690, "of all": 0.02, "right ones": 490 / 690, "of the model": 0.95},
    "05.3": {"across alone": 9, "without the middle": 80, "of one side": 25, "border": 64},
}


def told(capsys, *answers, **known):
    lessons.exercise(*answers, **known)
    return capsys.readouterr().out


def test_an_empty_exercise_does_not_fail_and_gives_nothing_away(said):
    assert said["empty"][0]["text"] == f"{EMPTY}\n"


@pytest.mark.parametrize("name", EXERCISES)
def test_naive_wrong_answers_are_refused_and_the_right_one_is_not(name, capsys):
    known, exercise = KNOWN.get(name, {}), EXERCISES[name]
    right = exercise.truth(**known)
    assert told(capsys, name, right, **known) == f"Right: {number(right)}.\n"
    assert len(WRONG[name]) >= 4
    for slip, answer in WRONG[name].items():
        text = told(capsys, name, answer, **known)
        assert text.startswith("Not yet: ") and exercise.hint in text, slip
    for empty in (None, ...):
        assert told(capsys, name, empty, **known) == f"{EMPTY}\n"


def test_no_cell_gives_the_answer_or_the_hint_away():
    asked = []
    for lesson in LESSONS:
        for source in cells_of(lesson):
            if "exercise(" in source:
                assert "\nanswer = None\n" in f"\n{source}\n", source
                name = re.search(r'exercise\("(.*?)", answer', source)[1]
                asked.append(name)
                given = re.findall(r"exercise\((.*)\)", source)[0].partition("answer")[2]
                assert not re.search(r"\d", given.replace("h[1]", "")), source  # names of the lesson, no numbers
                assert EXERCISES[name].hint not in source and "hint" not in source
    assert asked == list(EXERCISES) == list(WRONG)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (4, "Right: 4."),
        (4.1, "Not yet: 4.1 is too much."),
        (-4, "Not yet: -4 is too little."),
        (float("nan"), "Not yet: nan is no number."),
        ("four", "Not yet: 'four' is no number."),
        ([4], "Not yet: [4] is no number."),
        (10**400, "Not yet: 1000000000000000000000000000000000000000 is no number."),
    ],
)
def test_whatever_is_answered(capsys, answer, says):
    assert told(capsys, "03.1", answer).startswith(says)


def test_exercise_takes_tensors(capsys):
    import torch

    known = {"m": torch.tensor(64), "n": torch.tensor(1024)}
    assert told(capsys, "03.2", torch.tensor(61), **known) == "Right: 61.\n"
    assert "is no number" in told(capsys, "03.2", torch.ones(2), **known)


def test_an_exercise_that_is_not_there():
    with pytest.raises(SpecError, match="exercise='03.9'.*03.1"):
        lessons.exercise("03.9", None)


def test_a_lesson_that_is_not_there():
    with pytest.raises(SpecError, match=r"lesson='02_strategy': .*02_strategies"):
        lessons.begin("02_strategy")


def test_outside_of_a_notebook_nothing_is_done():
    lessons.begin("01_optimizers")


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_begins_itself_and_says_how_long_it_takes(lesson):
    cells = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text())["cells"]
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
