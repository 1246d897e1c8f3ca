"""Every notebook runs from start to end, once, in the small sizes of the smoke profile: under papermill, or nbval."""

import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT, execute

import lepton_lab as lab

NOTEBOOKS = ROOT / "notebooks"
PATHS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name != "index.ipynb"]  # which has no code
# One that trains and one that compresses; the slow tests of experiments run all five, in several ways.
PATHS += [NOTEBOOKS / "experiments" / f"{name}.ipynb" for name in ("local_sgd", "prune_then_quantize")]
# What they show has tests of its own; that the names they use are there is looked at below.
LONG = ("01_optimizers", "02_strategies", "03_compression", "04_your_own_work", "05_data", "report")
LONG += ("local_sgd", "prune_then_quantize")


def validate(path, folder):
    """Run a notebook's cells as tests, which fail where one raises."""
    shutil.copy(path, folder)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-W", "ignore", path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def has_parameter(path, name):
    """Whether a notebook's tagged cell gives a name its default."""
    cells = json.loads(path.read_text())["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return any(re.match(rf"{name}:", line) for source in tagged for line in source.splitlines())


def first(outputs, folder):
    """What the first notebook leaves, whose parameters were a model and epochs."""
    texts = ["".join(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in outputs]
    assert any("model: mlp" in text and "epochs: 2" in text for text in texts)  # the form prints the chosen spec
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2  # figures draw with no kernel
    assert {run.spec.name for run in lab.runs()} == {"from a cell", "quadrants", "steered"}
    assert {run.state for run in lab.runs()} == {"done", "stopped"}
    assert (folder / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in PATHS]
)
def test_every_notebook_runs(path, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_PROFILE", "smoke")
    if path.stem == "00_start_here":
        first(execute(path, tmp_path, model="mlp", epochs=2), tmp_path)
    elif path.stem == "report":
        ids = [lab.launch(tiny.replace(seed=seed)).id for seed in (0, 1)]
        assert {lab.attach(id).wait(60) for id in ids} == {"done"}
        text = json.dumps(execute(path, tmp_path, run_ids=ids))
        assert all(id in text for id in ids)
    elif path.stem == "app":
        validate(path, tmp_path)
    else:
        given = {"seed": 1} if has_parameter(path, "seed") else {}
        shown = [output.get("data", {}) for output in execute(path, tmp_path, **given)]
        assert any("image/png" in data or "<img" in "".join(data.get("text/html", "")) for data in shown), "no picture"


def imported(tree):
    """What imports bind to names, by name; only ours are imported."""
    found = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            path = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            if path.startswith("lepton_"):
                found[alias.asname or alias.name] = resolved(path)
    return found


def resolved(path):
    """The module, or what a module has, by its dotted path."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def fits(call, ours):
    """Assert that what a call gives to a function of ours is what that takes."""
    parts = [*ast.walk(call.func)]
    path = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Load)  # lab.launch, METRICS["accuracy"]
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    if not names or names - ours.keys() or not all(isinstance(part, path) for part in parts):
        return
    if any(isinstance(given, ast.Starred) for given in call.args):
        return
    function = eval(ast.unparse(call.func), ours)
    named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    whole = len(named) == len(call.keywords)  # else a dict gives the others
    signature = inspect.signature(function)
    (signature.bind if whole else signature.bind_partial)(*call.args, **named)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_notebook_takes_from_the_library_is_there(path):
    cells = json.loads(path.read_text())["cells"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    ours = imported(tree)
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
            assert hasattr(ours[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            fits(node, {name: found for name, found in ours.items() if name not in bound})
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "Spec":
            assert {keyword.arg for keyword in node.keywords} - {None} <= set(lab.Spec.model_fields)
