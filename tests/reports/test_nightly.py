"""docs/nightly.md: its grid, its line for cron and its workflow for CI do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

import lepton_lab as lab
from lepton_lab.errors import EXTRAS
from lepton_lab.reports import grids

PAGE = (ROOT / "docs" / "nightly.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


@pytest.fixture
def study(tmp_path, home, monkeypatch):
    """A home with the study's folder as cron finds it, and an environment as poor as cron's."""
    folder = tmp_path / "study"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "lepton-lab").symlink_to(BIN / "lepton-lab")
    (folder / "grid.yaml").write_text(blocks("yaml")[0])
    kept = ("LEPTON_LAB_HOME", "XDG_RUNTIME_DIR", "PYTHONPATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return folder, {**environment, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


def test_the_grid_is_four_runs(study):
    assert len(grids.read(study[0] / "grid.yaml").cells) == 4


def test_the_parameters_are_of_a_notebook():
    cell, call = blocks("python")
    namespace = {}
    exec(cell, namespace)
    exec(call, namespace)
    assert (namespace["lr"], namespace["epochs"]) == (1e-3, 5)


def test_the_workflow_installs_what_reports_need():
    steps = yaml.safe_load(blocks("yaml")[1])["jobs"]["report"]["steps"]
    [install] = [step["run"] for step in steps if step.get("name") == "Install"]
    assert EXTRAS["jinja2"] == EXTRAS["matplotlib"] == "report" and "'.[report]'" in install


@pytest.mark.slow
def test_the_line_for_cron(study):
    folder, environment = study
    [line] = blocks("cron")
    command = line.split(maxsplit=5)[5].replace(r"\%", "%")  # as cron takes it
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, cwd=folder, timeout=280)
    assert done.returncode == 0, (folder / "night.log").read_text()
    [pages] = (folder / "reports").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", pages.name)
    assert len(list(pages.glob("lr-*.html"))) == 4 and (pages / "index.html").exists()
    assert "4 runs, 0 of them done before" in (folder / "night.log").read_text()


@pytest.mark.slow
def test_the_workflow_for_ci(study):
    folder, environment = study
    job = yaml.safe_load(blocks("yaml")[1])["jobs"]["report"]
    assert job["timeout-minutes"] > 50
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    steps = [step["run"] for step in job["steps"] if "run" in step and step["name"] != "Install"]
    said = ""
    for step in steps:
        done = subprocess.run(["bash", "-e", "-c", step], env=environment, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert len(re.findall(r"\('done', \{'lr': .*?, 'seed': .*?\}, 0\.\d+\)", said)) == 4
    summary = json.loads((folder / "reports" / "summary.json").read_text())
    assert summary["exit"] == 0 and len(lab.runs()) == 4
