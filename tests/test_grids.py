"""Grids: refused whole before anything starts, done through the queue, ended early, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner
from conftest import until

import lepton_lab as lab
from lepton_lab import grids
from lepton_lab.cli import main
from lepton_lab.folders import ENDED
from lepton_lab.grids.running import RECORDS, Execution

TINY = "base: {dataset: digits, model: mlp, epochs: 1, batch_size: 256}\n"


@pytest.fixture
def write(tmp_path):
    """A grid file of a text."""

    def write(text, name="grid.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def call(*words, code=0):
    result = CliRunner().invoke(main, ["report", *map(str, words)], prog_name="lepton-lab")
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def test_every_combination_is_a_spec_and_seeds_change_fastest(write):
    grid = grids.read(
        write("base: {model: mlp, name: night}\naxes: {lr: [1e-3, 1e-2], optimizer: [adam]}\nseeds: [0, 1]")
    )
    assert [cell.label for cell in grid.cells] == [
        f"lr={lr}, optimizer=adam, seed={seed}" for lr in (0.001, 0.01) for seed in (0, 1)
    ]
    first = grid.cells[0].spec
    assert first == lab.Spec(model="mlp", lr=1e-3, optimizer="adam", seed=0, name=f"night: {grid.cells[0].label}")
    assert len({cell.digest for cell in grid.cells}) == 4


def test_a_digest_is_of_what_is_computed(write):
    one, other = (
        grids.read(write(f"base: {{lr: {lr}, name: {name}}}")) for lr, name in (("1e-3", "a"), ("0.001", "b"))
    )
    assert one.cells[0].digest == other.cells[0].digest
    assert one.cells[0].digest != grids.read(write("base: {lr: 2e-3}")).cells[0].digest


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base: {modle: mlp}", "modle='mlp': unknown field; did you mean 'model'?"),
        ("axes: {learning_rate: [1]}", "axes.learning_rate: unknown field; did you mean 'lr'?"),
        ("axes: {lr: []}", "axes.lr=[]: an axis needs at least one value"),
        ("axes: {lr: 1}", "axes.lr=1: must be a list of values, such as [1]"),
        ("axes: {lr: [0.1, 1e-1]}", "axes: lr=0.1 comes twice; name each value once"),
        ("base: {lr: 1}\naxes: {lr: [1, 2]}", "lr: is in base and in axes"),
        ("base: {lr: 1}\nbase: {lr: 2}", "'base' comes twice"),
        ("axis: {lr: [1]}", "axis: unknown key; did you mean 'axes'?"),
        ("axes: [lr]", "axes=['lr']: must be pairs of field and value"),
        ("seeds: []", "seeds=[]: an axis needs at least one value"),
        ("seeds: [1]\naxes: {seed: [1]}", "seeds and axes.seed: are the same"),
        ("axes: {name: [a]}", "a name for all of them belongs into base"),
        ("axes: {lr: [1, -1]}", "lr=-1: must be greater than 0"),
        ("axes: {world: [1, 99], accumulate: [1]}", "batch_size=64: must be at least 99"),
        ("base: {world: 64}", "world=64: at most"),
        ("base: {model: 'cell:Net'}", "was defined in a notebook"),
        ("base: {parent: nope, compress: distill}", "run 'nope' does not exist"),
        (f"seeds: {list(range(1001))}", "make 1,001 runs; at most 1,000"),
        ("hello", "must be lines of `key: value`"),
        ("[", "not valid YAML"),
    ],
)
def test_a_bad_grid_is_a_sentence_before_anything_starts(write, tmp_path, home, text, sentence):
    said = call("--grid", write(text), "--out", tmp_path / "out", code=2)
    assert sentence in said and "grid.yaml" in said and "Traceback" not in said
    assert not (home / "runs").exists() and not (tmp_path / "out").exists()


def test_a_bad_place_is_a_sentence_before_anything_starts(write, tmp_path, home):
    grid = write(TINY)
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / RECORDS).write_text("[1]")
    for out, sentence in (
        ("/proc/none", "can't be written"),
        (tmp_path / "file", "is a file; a grid needs a folder"),
        (tmp_path / "other", "name another folder"),
    ):
        assert sentence in call("--grid", grid, "--out", out, code=2)
    assert "can't be read: No such file" in call("--grid", tmp_path / "none.yaml", "--out", tmp_path / "x", code=2)
    assert "--grid needs a folder" in call("--grid", grid, code=2)
    assert "leave out IDs" in call("anyid", "--grid", grid, "--out", tmp_path / "x", code=2)
    assert not (home / "runs").exists()


@pytest.fixture(scope="module")
def night(tmp_path_factory, standby):
    """A grid of three runs of which one diverges, called twice; (grid file, folder, what each call said)."""
    with pytest.MonkeyPatch.context() as own:
        root = tmp_path_factory.mktemp("night")
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        grid, out = root / "grid.yaml", root / "pages" / "new"
        grid.write_text(TINY.replace("}", ", optimizer: sgd}") + "axes: {lr: [0.1, 1e30]}\nseeds: [0, 1]\n")
        said = [call("--grid", grid, "--out", out, code=1)]
        stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.html")}
        first = json.loads((out / "summary.json").read_text())
        said.append(call("--grid", grid, "--out", out, code=1))
        yield {"grid": grid, "out": out, "said": said, "first": first, "stamps": stamps, "home": root}


@pytest.fixture
def summary(night, home, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_HOME", str(night["home"]))
    return json.loads((night["out"] / "summary.json").read_text())


def test_each_run_has_a_page_and_the_summary_tells_all(night, summary):
    for told in (night["first"], summary):
        assert (told["status"], told["exit"]) == ("failed", 1)
        assert [row["state"] for row in told["runs"]] == ["done", "done", "failed", "failed"]
        assert told["runs"][0]["values"] == {"lr": 0.1, "seed": 0}
        assert all((night["out"] / row["report"]).stat().st_size < 1_000_000 for row in told["runs"])
    done, *_, failed = summary["runs"]
    assert done["test_accuracy"] > 0.3 and done["val_loss"] > 0 and done["problem"] == ""
    assert "not finite" in failed["problem"] or "nan" in failed["problem"] or "inf" in failed["problem"]
    assert "failed" in (night["out"] / failed["report"]).read_text()
    run = lab.attach(done["id"])
    assert run.command == done["command"] and str(run.folder) == done["folder"]


def test_a_second_call_does_only_what_is_missing(night, summary):
    ids = [[row["id"] for row in told["runs"]] for told in (night["first"], summary)]
    assert ids[0] == ids[1] and len(lab.runs()) == 4
    assert night["first"]["reused"] == [] and summary["reused"] == [row["digest"] for row in summary["runs"][:2]]
    assert "reused, done" in night["said"][1] and "2 of them done before" in night["said"][1]
    for row in summary["runs"]:  # what failed was tried again, and shown again
        same = (night["out"] / row["report"]).stat().st_mtime_ns == night["stamps"][row["report"]]
        assert same == (row["state"] == "done")


def test_the_index_needs_nothing_else_and_links_to_all(night, summary):
    from test_reports import Page

    page = Page(night["out"] / "index.html")
    assert len(page.source.encode()) < 1_000_000
    assert [a["href"] for a in page.all("a")] == [row["report"] for row in summary["runs"]]
    assert all(img["src"].startswith("data:image/png;base64,") and len(img["alt"]) > 40 for img in page.all("img"))
    assert len(page.all("img")) == len(page.all("figcaption")) == 3
    assert not page.all("link") and "http" not in page.source.replace("http-equiv", "")
    assert not any(script.get("src") for script in page.all("script"))
    assert f"lepton-lab report --grid {night['grid']} --out {night['out']}" in page.text
    assert "4 runs: 2 done, 2 failed" in page.text and "axes: {lr: [0.1, 1e30]}" in page.text


def test_two_calls_at_once_don_t_do_everything_twice(night, summary):
    execution = Execution(grids.read(night["grid"]), night["out"], print)
    with (night["out"] / ".lock").open() as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(lab.LabError, match="another call on a grid is at work there"):
            execution.run()


def test_a_run_that_is_gone_is_run_again(write, tmp_path):
    from shutil import rmtree

    grid, out = write(TINY), tmp_path / "out"
    call("--grid", grid, "--out", out)
    first = lab.attach()
    rmtree(first.folder)
    assert "0 of them done before" in call("--grid", grid, "--out", out)
    assert lab.attach() != first and lab.attach().state == "done"


def test_sigterm_ends_it_with_what_is_done_shown_and_the_next_call_goes_on(write, tmp_path):
    grid = write(TINY.replace("epochs: 1", "checkpoint_every: 0") + "axes: {epochs: [1, 100000]}\n")
    steps = [0]
    for _ in range(2):
        said, code, summary = ended_early(grid, tmp_path / "out", steps[-1] + 5)
        assert code == 130, said
        assert (summary["status"], summary["exit"]) == ("ended early", 130)
        assert [row["state"] for row in summary["runs"]] == ["done", "stopped"]
        steps.append(summary["runs"][1]["step"])
        page = (tmp_path / "out" / "index.html").read_text()
        assert "1 done, 1 stopped" in page and 'href="epochs-1-' in page
    assert steps == sorted(set(steps)) and len(lab.runs()) == 2  # it went on, and nothing was launched anew


def ended_early(grid, out, step):
    """A call that gets SIGTERM when its first run is shown and its second is past a step: words, status, summary."""

    def ready():
        endless = next((run for run in lab.runs() if run.spec.epochs > 1), None)
        going = endless and endless.state == "running" and endless.summary()["step"] > step
        return going and list(out.glob("epochs-1-*.html"))

    words = [sys.executable, "-m", "lepton_lab", "report", "--grid", str(grid), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(ready, 120)
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return said, process.returncode, json.loads((out / "summary.json").read_text())


def test_ranks_at_once_are_no_more_than_one_run_may_have(write, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "1")
    execution = Execution(grids.read(write(TINY + "seeds: [0, 1]")), tmp_path / "out", lambda line: None)
    most = []
    watch = threading.Thread(target=lambda: until(lambda: _watched(most), 60))
    watch.start()
    assert execution.run()["status"] == "done"
    watch.join()
    assert max(most) == 1


def _watched(most):
    states = [run.state for run in lab.runs()]
    most.append(sum(state not in ENDED for state in states))
    return len(states) == 2 and all(state == "done" for state in states)
