"""Experiments: what they ask for is documented and checked first, and each ends in an answer that can be repeated."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

import lepton_lab as lab

FOLDER = ROOT / "notebooks" / "experiments"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
PARAMETER = re.compile(r"(\w+): [\w\[\]]+ = .+  # .{10,}")


def code(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def papermill(path, out, *arguments, profile="smoke"):
    command = [sys.executable, "-m", "papermill", str(path), str(out), "--no-progress-bar", *arguments]
    environment = {**os.environ, "LEPTON_LAB_PROFILE": profile}
    return subprocess.run(command, cwd=out.parent, capture_output=True, text=True, env=environment)


def told(cell):
    """What a cell put out, as text."""
    return "".join(
        "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
        for output in cell["outputs"]
    )


def test_there_are_five():
    assert len(BOOKS) == 5


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_parameters_are_annotated_and_told(path):
    (cell,) = (cell for cell in code(path) if "parameters" in cell["metadata"].get("tags", []))
    for line in "".join(cell["source"]).splitlines():
        assert PARAMETER.fullmatch(line), line
    assert "lab.parameters(globals(), smoke=" in "".join(code(path)[code(path).index(cell) + 1]["source"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-p", "seeds", "[3]"), "from one seed only no interval can be given; add more, such as 4"),
        pytest.param(("-p", "sedes", "[3, 4]"), "did you mean 'seeds'", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_bad_parameters_are_refused_before_any_run(home, tmp_path, arguments, sentence):
    done = papermill(FOLDER / "local_sgd.ipynb", tmp_path / "out.ipynb", *arguments)
    assert done.returncode and sentence in done.stderr
    assert not lab.runs()


@pytest.mark.slow
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_an_experiment_ends_in_an_answer_and_the_command_that_repeats_it(home, path, tmp_path):
    done = papermill(path, tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr[-2000:]
    *cells, answer, again = code(tmp_path / "out.ipynb")
    assert "95 % interval" in told(answer)
    pictures = [output for cell in cells for output in cell["outputs"] if "<img" in str(output.get("data", {}))]
    assert pictures and all("alt=" in str(output["data"]) for output in pictures)
    program, book, _, *arguments = shlex.split(told(again))
    assert (program, Path(book).name) == ("papermill", path.name)
    before = len(lab.runs())
    done = papermill(path, tmp_path / "again.ipynb", *arguments, profile="full")
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lab.runs()) == 2 * before  # it is as small as what it repeats
    if "Time" not in told(answer):
        assert told(code(tmp_path / "again.ipynb")[-2]) == told(answer)
