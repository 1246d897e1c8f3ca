"""Every notebook runs from start to end, in the small sizes of the smoke profile: under nbval, and papermill."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lepton_lab as lab

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATHS = [path for path in sorted(NOTEBOOKS.glob("**/*.ipynb")) if path.name != "index.ipynb"]  # which has no code
LESSONS = [path for path in PATHS if path.name[0].isdigit() or path.parent != NOTEBOOKS]


def run(*command, cwd):
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def parameters(path):
    """Names that a notebook's tagged cell gives their defaults."""
    cells = json.loads(path.read_text())["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return [line.split(":")[0] for source in tagged for line in source.splitlines() if re.match(r"\w+:", line)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_notebook_runs(path, tiny, tmp_path, no_compiler, monkeypatch):
    """Papermill puts the parameters in and nbval runs what it wrote, so that one execution serves both."""
    monkeypatch.setenv("LEPTON_LAB_PROFILE", "smoke")
    lab.launch(tiny).wait(60)  # something to report on
    ours = ["-p", "seed", "1"] if "seed" in parameters(path) else []
    run("papermill", str(path), path.name, "--prepare-only", "--no-progress-bar", *ours, cwd=tmp_path)
    assert ("injected-parameters" in (tmp_path / path.name).read_text()) == bool(ours)
    run("pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-W", "ignore", path.name, cwd=tmp_path)


def outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return [output for cell in cells for output in cell["outputs"]]


def test_papermill_sets_the_parameters_of_the_first_notebook(tmp_path):
    book = str(NOTEBOOKS / "00_start_here.ipynb")
    run("papermill", book, "out.ipynb", "--no-progress-bar", "-p", "model", "mlp", "-p", "epochs", "2", cwd=tmp_path)
    found = outputs(tmp_path / "out.ipynb")
    texts = ["".join(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in found]
    assert any("model: mlp" in text and "epochs: 2" in text for text in texts)  # the form prints the chosen spec
    assert sum("image/png" in output.get("data", {}) for output in found) >= 2  # figures draw with no kernel
    assert {run.spec.name for run in lab.runs()} == {"from a cell", "quadrants", "steered"}
    assert {run.state for run in lab.runs()} == {"done", "stopped"}
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_papermill_reports_on_the_runs_it_is_given(tiny, tmp_path):
    ids = []
    for seed in (0, 1):
        one = lab.launch(tiny.replace(seed=seed))
        one.wait(60)
        ids.append(one.id)
    book = str(NOTEBOOKS / "report.ipynb")
    run("papermill", book, "out.ipynb", "--no-progress-bar", "-p", "run_ids", json.dumps(ids), cwd=tmp_path)
    text = json.dumps(outputs(tmp_path / "out.ipynb"))
    assert all(id in text for id in ids)


@pytest.mark.slow  # nbval runs the same cells
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_papermill_runs_the_lessons(path, tmp_path, no_compiler, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_PROFILE", "smoke")
    run("papermill", str(path), "out.ipynb", "--no-progress-bar", cwd=tmp_path)
    found = outputs(tmp_path / "out.ipynb")
    shown = [output.get("data", {}) for output in found]
    assert any("image/png" in data or "<img" in "".join(data.get("text/html", "")) for data in shown), "no picture"
    assert not [output for output in found if output["output_type"] == "error"]
