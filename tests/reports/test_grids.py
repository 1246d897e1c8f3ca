"""Grids: refused whole before anything starts, done through the queue, ended early, and gone on with."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
from shutil import rmtree
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from helpers import Page, until

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.reports import grids, index
from lepton_lab.reports.grids.output import RECORDS
from lepton_lab.reports.grids.running import Execution
from lepton_lab.store.folder import ENDED, RunFolder

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


def test_long_numbers_are_short_in_names_and_exact_in_specs(write):
    lr = 10**-2.5
    grid = grids.read(write(f"base: {{model: mlp}}\naxes: {{lr: [{lr}, 1e-3]}}\nseeds: [0]"))
    assert [cell.spec.name for cell in grid.cells] == ["lr=0.003162, seed=0", "lr=0.001, seed=0"]
    assert grid.cells[0].spec.lr == lr


def test_runs_whose_short_names_would_be_the_same_have_exact_ones(write):
    grid = grids.read(write("base: {model: mlp}\naxes: {lr: [0.00123456, 0.00123457, 0.1]}"))
    assert [cell.spec.name for cell in grid.cells] == ["lr=0.00123456", "lr=0.00123457", "lr=0.1"]
    assert [cell.label for cell in grid.cells] == [cell.spec.name for cell in grid.cells]


def test_curves_of_numbers_that_look_alike_stay_apart():
    ended = SimpleNamespace(state="done")
    rates = (0.12341, 0.12342, 0.12341, 0.5)
    entries = [index.Entry({"lr": lr, "seed": seed}, "done", ended) for seed, lr in enumerate(rates)]
    groups = {label: len(runs) for label, runs in index._groups(entries).items()}
    assert groups == {"{'lr': 0.12341}": 2, "{'lr': 0.12342}": 1, "lr=0.5": 1}


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
        ("on: cluster", "on='cluster': unknown launcher"),
        ("on: [torchrun]", "on=['torchrun']: must be 'local', or a launcher with its settings"),
        ("on: {torchrun: {node: 2}}", "node=2: unknown setting; did you mean 'nodes'?"),
        ("base: {world: 3}\non: {torchrun: {nodes: 2}}", "world=3 on 2 nodes"),
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
    """A grid of two runs, of which one diverges, called three times: what each call said, its summary and its pages."""
    with pytest.MonkeyPatch.context() as own:
        root = tmp_path_factory.mktemp("night")
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        grid, out = root / "grid.yaml", root / "pages" / "new"
        base = TINY.replace("epochs: 1", "epochs: 120, optimizer: sgd, eval_every: 50, checkpoint_every: 0")
        calls = []
        for lrs, code in (("[0.1, 1e30]", 130), ("[0.1, 1e30]", 1), ("[0.1]", 0)):
            grid.write_text(f"{base}axes: {{lr: {lrs}}}\n")
            said = ended_early(grid, out) if code == 130 else call("--grid", grid, "--out", out, code=code)
            pages = {path.name: (path.stat().st_mtime_ns, path.read_text()) for path in out.glob("*.html")}
            calls.append((said, json.loads((out / "summary.json").read_text()), pages))
        yield {"calls": calls, "grid": grid, "out": out, "home": root}


def ended_early(grid, out):
    """What a call says that gets SIGTERM when its second run is shown, and its first is under way."""

    def going():
        run = next((run for run in lab.runs() if run.spec.lr == 0.1), None)
        return run if run and (run.summary()["step"] or 0) > 5 else None

    words = [sys.executable, "-m", "lepton_lab", "report", "--grid", str(grid), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(going, 120).pause()
        until(lambda: list(out.glob("lr-1e-30-*.html")), 120)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    return said


@pytest.fixture
def runs(night, home, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_HOME", str(night["home"]))
    return {run.spec.lr: run for run in lab.runs()}


@pytest.mark.slow
def test_sigterm_ends_it_with_what_is_done_shown(night):
    said, summary, pages = night["calls"][0]
    assert "Ending early" in said and "lr=1e+30  failed" in said
    assert (summary["status"], summary["exit"]) == ("ended early", 130)
    assert [row["state"] for row in summary["runs"]] == ["stopped", "failed"]
    assert [row["report"] in pages for row in summary["runs"]] == [False, True]
    assert "2 runs: 1 stopped, 1 failed" in pages["index.html"][1]


def test_the_next_call_does_what_is_missing_and_the_summary_tells_all(night, runs):
    (_, before, old), (said, summary, pages) = night["calls"][:2]
    assert len(runs) == len(lab.runs()) == 2  # both went on, none was launched anew
    assert [row["id"] for row in before["runs"]] == [row["id"] for row in summary["runs"]]
    assert "2 runs, 0 of them done before" in said
    assert (summary["status"], summary["exit"], summary["reused"]) == ("failed", 1, [])
    done, failed = summary["runs"]
    assert (done["state"], done["values"], done["step"], done["problem"]) == ("done", {"lr": 0.1}, done["steps"], "")
    assert done["test_accuracy"] > 0.3 and done["val_loss"] > 0 and done["training_seconds"] > 0
    assert done["step"] > before["runs"][0]["step"] > 0
    assert failed["state"] == "failed" and "rank 0" in failed["problem"]
    assert runs[0.1].command == done["command"] and str(runs[0.1].folder) == done["folder"]
    for row in summary["runs"]:
        time, page = pages[row["report"]]
        assert len(page.encode()) < 1_000_000 and row["id"] in page
        assert time != old.get(row["report"], (0, ""))[0]  # what failed was tried again, and shown again
    assert 'class="failure"' in pages[failed["report"]][1]


def test_what_is_done_is_reused_also_when_the_grid_has_changed(night):
    (_, before, old), (said, summary, pages) = night["calls"][1:]
    assert (summary["status"], summary["exit"]) == ("done", 0)
    assert summary["runs"] == before["runs"][:1]
    assert summary["reused"] == [row["digest"] for row in summary["runs"]]
    assert "1 of them done before" in said and "lr=0.1  reused, done" in said
    name = summary["runs"][0]["report"]
    assert pages[name] == old[name]


def test_the_index_needs_nothing_else_and_links_to_all(night, tmp_path):
    _, summary, pages = night["calls"][1]
    (tmp_path / "index.html").write_text(pages["index.html"][1])
    page = Page(tmp_path / "index.html")
    assert len(page.source.encode()) < 1_000_000
    assert [a["href"] for a in page.all("a")] == [row["report"] for row in summary["runs"]]
    assert all(img["src"].startswith("data:image/png;base64,") and len(img["alt"]) > 40 for img in page.all("img"))
    assert len(page.all("img")) == len(page.all("figcaption")) == 3
    assert not page.all("link") and "://" not in page.source
    assert not any(script.get("src") for script in page.all("script"))
    assert f"lepton-lab report --grid {night['grid']} --out {night['out']}" in page.text
    assert "2 runs: 1 done, 1 failed" in page.text and "axes: {lr: [0.1, 1e30]}" in page.text


def test_two_calls_at_once_don_t_do_everything_twice(night):
    execution = Execution(grids.read(night["grid"]), night["out"], print)
    with (night["out"] / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(lab.LabError, match="another call on a grid is at work there"):
            execution.run()


def test_a_page_that_can_t_be_written_is_a_sentence_and_costs_no_run(night, runs):
    index = night["out"] / "index.html"
    whole = index.read_bytes()
    index.unlink()
    index.mkdir()
    said = call("--grid", night["grid"], "--out", night["out"], code=1)
    assert f"Error: the pages in {str(night['out'])!r} can't be written (Is a directory)" in said
    assert "Traceback" not in said and not list(night["out"].glob(".index*"))
    index.rmdir()
    assert "1 of them done before" in call("--grid", night["grid"], "--out", night["out"])
    assert len(index.read_bytes()) == pytest.approx(len(whole), rel=0.1)


@pytest.mark.slow
def test_a_run_that_is_gone_is_run_again(write, tmp_path):
    grid, out = write(TINY), tmp_path / "out"
    call("--grid", grid, "--out", out)
    first = lab.attach()
    rmtree(first.folder)
    assert "0 of them done before" in call("--grid", grid, "--out", out)
    assert lab.attach() != first and lab.attach().state == "done"


@pytest.mark.slow
def test_ranks_at_once_are_no_more_than_one_run_may_have(write, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "1")
    execution = Execution(grids.read(write(TINY + "seeds: [0, 1]")), tmp_path / "out", lambda line: None)
    most = []
    watch = threading.Thread(target=lambda: until(lambda: _watched(most)))
    watch.start()
    assert execution.run()["status"] == "done"
    watch.join()
    assert max(most) == 1


def _watched(most):
    states = [run.state for run in lab.runs()]
    most.append(sum(state not in ENDED for state in states))
    return len(states) == 2 and all(state == "done" for state in states)


def test_a_parent_by_its_name_is_the_run_that_it_means(write):
    id = RunFolder.create(lab.Spec(name="dense")).id
    (cell,) = grids.read(write("base: {parent: dense, compress: distill}")).cells
    assert cell.spec.parent == id  # so that the same file finds its runs again
