"""Runs and artifacts of earlier versions (golden/make.py): this one reads, reports, resumes and loads them all."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from helpers import ROOT

import lepton_lab as lab


@pytest.fixture(scope="module", params=sorted(ROOT.glob("tests/golden/*.tar.xz")), ids=lambda path: path.name)
def golden(request, tmp_path_factory):
    """A folder with a version's runs and artifacts, and what that version read from them."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder, json.loads((folder / "expected.json").read_text())


@pytest.fixture
def runs(golden, home):
    """The runs by their kind, as copies in this test's root."""
    folder, expected = golden
    shutil.copytree(folder / "runs", home / "runs")
    return {name: lab.attach(told["id"]) for name, told in expected["runs"].items()}


def test_there_is_one():
    sizes = [path.stat().st_size for path in ROOT.glob("tests/golden/*.tar.xz")]
    assert sizes and max(sizes) < 300_000


def test_runs_are_read_as_they_were(golden, runs):
    for name, told in golden[1]["runs"].items():
        run = runs[name]
        assert run.state == told["state"] and run.spec == lab.Spec(**told["spec"]) and len(run.rows()) == told["rows"]
        summary = run.summary()
        assert summary["step"] == told["steps"] and summary.get("test_accuracy") == told["accuracy"]
        assert (run.failure and run.failure.message) == told["failure"]
        if told["weights"]:
            weights = [p.double().sum().item() for p in run.model().parameters()]
            assert weights == pytest.approx(told["weights"], abs=1e-6)
    assert {run.id for run in lab.runs()} == {run.id for run in runs.values()}
    assert len(lab.table(list(runs.values()))) == len(runs)


@pytest.mark.slow
def test_they_are_reported_on(runs, tmp_path):
    page = lab.report(list(runs.values()), tmp_path / "report.html").read_text()
    assert all(run.id in page for run in runs.values()) and "prune 0.5, quantize int8" in page


def test_a_stopped_run_goes_on_to_its_end(runs):
    run = runs["stopped"]
    run.resume()
    assert run.wait(60) == "done", run.failure
    assert run.summary()["step"] == 2 * runs["done"].summary()["step"] and run.summary()["test_accuracy"] > 0.7


def test_a_run_is_compressed_as_its_child_was(runs):
    guess = lab.estimate(runs["done"], [("prune", 0.5), ("quantize", "int8")])
    assert guess.parameters == sum(p.numel() for p in runs["child"].model().parameters())


def test_artifacts_give_the_scores_that_they_gave(golden, runs):
    folder, expected = golden
    for runtime, scores in expected["artifacts"].items():
        artifact = lab.load(folder / "artifacts" / f"{runtime}.lepton")
        assert artifact(artifact.made_up(2)) == pytest.approx(np.array(scores), abs=1e-4)
    assert lab.load(runs["child"].folder / "artifact.lepton").manifest["scheme"] == "int8_static"
