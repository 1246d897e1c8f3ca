"""Races: real runs in turn, the same training under each strategy, and the check that holds them to one process."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from helpers import ranks_of, until
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.run import launching
from lepton_lab.studies import races
from lepton_lab.studies.equality import DIFFERS, exact, tolerances
from lepton_lab.studies.races import among

UNUSED = ("ddp", {"find_unused_parameters": True})


@pytest.fixture
def spec():
    return lab.Spec(model="mlp", epochs=2, world=2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, standby):
    """A run root with a race that is over."""
    with pytest.MonkeyPatch.context() as own:
        root = tmp_path_factory.mktemp("archive")
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        spec = lab.Spec(model="mlp", epochs=2, world=2)
        race = lab.race(spec, ["ddp", "single", UNUSED, {"strategy": "single", "world": 2}])
        assert race.wait(120) == ["done"] * 3
        yield root, race


@pytest.fixture
def race(home, archive, monkeypatch):
    root, found = archive
    monkeypatch.setenv("LEPTON_LAB_HOME", str(root))
    return found


def endless(**fields):
    return lab.Spec(model="mlp", epochs=100_000, batch_size=32, world=2, eval_every=0, checkpoint_every=0, **fields)


def span(run):
    """When its ranks started, and when it had ended."""
    return next(row["t"] for row in run.rows("state") if row["state"] == "starting"), run.facts["t"]


def test_strategies_take_turns(race):
    spans = [span(run) for run in race.runs]
    assert all(ended < began for (_, ended), (began, _) in pairwise(spans))
    assert [(run.spec.strategy, run.spec.world) for run in race.runs] == [("ddp", 2), ("single", 1), ("ddp", 2)]


def test_each_is_held_to_one_process(race):
    assert race.reference == race.runs[1]
    rows = race.rows()
    assert [row["check"] for row in rows] == ["equal", "the reference", "equal", None]
    assert all(row["loss_difference"] <= row["loss_tolerance"] == 1e-5 for row in rows[:3])
    assert all(row["parameter_difference"] <= row["parameter_tolerance"] for row in rows[:3])
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)
    assert rows[1]["curve_difference"] == rows[1]["parameter_difference"] == 0


def test_the_table_has_times_and_memory(race):
    table = race.table()
    assert list(table["name"]) == ["ddp x 2", "single", "ddp x 2, find_unused_parameters=True", "single x 2"]
    for row in race.rows()[:3]:
        assert row["memory"] > 1e6
        assert row["samples_per_s"] == pytest.approx(64 / row["step_s"])
        assert row["to_loss_s"] > 0


@pytest.mark.slow
def test_what_was_refused_stays_in_the_table(race):
    row = race.rows()[-1]
    assert (row["state"], row["loss"], row["run"]) == ("refused", None, None)
    assert row["problem"].startswith("world=2: strategy='single' is one process")
    assert row["problem"].split(";")[0] in race._repr_mimebundle_()["text/html"].replace("&#x27;", "'")


def test_it_is_shown_without_scripts_or_network(race):
    shown = race._repr_mimebundle_()
    assert 'width="912" alt="Strategies side by side' in shown["text/html"]
    assert (
        f"lepton-lab report {' '.join(run.id for run in race.runs)} --figure race --out race.png" in shown["text/html"]
    )
    assert "data:image/png;base64," in shown["text/html"]
    assert "<table" in shown["text/html"]
    assert "<script" not in shown["text/html"]
    assert "DIFFERS" not in shown["text/plain"]
    figure = race.figure().figure()
    assert len(figure.data) == 8  # a curve by step and one by second for each run, and two rows of bars


def test_a_race_is_found_again_by_its_runs(race):
    again = lab.Race([lab.attach(run.id) for run in race.runs])
    assert again.rows() == race.rows()[:3]
    assert isinstance(among(again.runs), lab.Race)


def test_another_training_is_no_part_of_a_race(race, home):
    other = lab.repeat(race.runs[1], lr=0.01)
    other.wait(60)
    with pytest.raises(SpecError, match=r"lr=0\.01: run .* is another training"):
        lab.Race([race.runs[0], other])
    assert among([race.runs[0], other]).html == among(race.runs[:1]).html == ""
    with pytest.raises(SpecError, match="at least one"):
        lab.Race([])


def test_another_curve_is_told(spec):
    race = lab.race(spec, ["single", "ddp"])
    race.wait(60)
    for path in (race.runs[1].folder / "events").glob("rank*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row | {"loss": row["loss"] + 0.1} if row.get("step") == 5 and "loss" in row else row for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert race.rows()[1]["check"] == DIFFERS
    assert race.rows()[1]["loss_difference"] > 0.01


@pytest.mark.slow
def test_dropout_is_held_to_one_process_where_all_ranks_draw_the_same(spec):
    strategies = ["single", {"strategy": "ddp", "world": 1}, "tensor", "fsdp_tensor", "ddp", "pipeline"]
    race = lab.race(spec.replace(options={"dropout": 0.5}, epochs=1), strategies)
    assert set(race.wait(120)) == {"done"}
    own = "not held to it: every rank draws its own dropout"
    assert [row["check"] for row in race.rows()] == ["the reference", "equal", "equal", "equal", own, own]


def test_a_strategy_is_refused_as_a_launch_refuses_it():
    spec = lab.Spec(world=2, epochs=1)  # whose model was not named
    with pytest.raises(SpecError) as error:
        lab.launch(spec.replace(strategy="tensor"))
    for order in (["tensor", "single"], ["single", "tensor"]):
        race = lab.race(spec, order)
        race.stop()
        race.wait(60)
        assert race.refused == {"tensor x 2": str(error.value)}


def test_a_step_of_gradient_descent_takes_all_samples():
    race = lab.race(lab.Spec(model="mlp", optimizer="gd", epochs=5, checkpoint_every=0), ["single"])
    assert race.wait(60) == ["done"]
    (row,) = race.rows()
    assert row["samples_per_s"] == pytest.approx(race.runs[0].facts["samples"] / row["step_s"])


class Alone(nn.Module):
    """Works in one process only."""

    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    def forward(self, x):
        if torch.distributed.is_initialized():
            raise RuntimeError("not in company")
        return self.layers(x)


@pytest.mark.slow
def test_code_from_a_cell_goes_with_every_run_and_a_failure_stays_in_the_table():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    data = ((x, (x.sum(1) > 0).long()), (x[:20], (x[:20].sum(1) > 0).long()))
    race = lab.race(lab.Spec(world=2, epochs=2), ["ddp", "single"], model=Alone, data=data, loss=nn.CrossEntropyLoss())
    assert race.wait(60) == ["failed", "done"]
    failed, done = race.rows()
    assert "not in company" in failed["problem"]
    assert (failed["check"], done["check"]) == (None, "the reference")
    assert race.runs[1].model()(x[:3]).shape == (3, 2)
    assert "not in company" in race._repr_mimebundle_()["text/html"]


def test_all_strategies_that_can_do_it_are_the_default(tiny):
    race = lab.race(tiny.replace(epochs=1))
    assert {run.spec.strategy for run in race.runs} | {name.split(" ")[0] for name in race.refused} == set(
        lab.spec.table("strategy")
    )
    race.stop()
    race.wait(60)


def test_what_cannot_be_meant_is_refused_before_anything_starts(spec):
    for strategies, said in [
        (["single", "dpp"], "did you mean 'ddp'"),
        ([{"world": 2}], "must be names"),
        ([{"strategy": "ddp", "lr": 1.0}], "'lr' can't differ in a race"),
        ([{"strategy": "ddp", "world": 999}], "none can do this spec"),
        ([], "none was given"),
        ("ddp", "^strategies='ddp': must be a list"),
        ({"strategy": "ddp"}, "^strategies={'strategy': 'ddp'}: must be a list"),
        (3, "^strategies=3: must be a list"),
        ([("ddp", 3)], "^options=3: must be pairs"),
        ([{"strategy": "ddp", "options": None}], "^options=None: must be pairs"),
    ]:
        with pytest.raises(SpecError, match=said):
            lab.race(spec, strategies)
    with pytest.raises(SpecError, match="race takes a Spec"):
        lab.race("ddp")
    assert lab.runs() == []


def test_of_a_race_that_a_full_disk_cuts_short_nothing_is_left(spec, monkeypatch):
    made = []

    def make(*arguments):
        if made:
            raise OSError(28, "No space left on device")
        made.append(launching_make(*arguments))
        return made[-1]

    launching_make = races.make
    monkeypatch.setattr(launching, "make", make)
    monkeypatch.setattr(races, "make", make)
    with pytest.raises(OSError, match="No space"):
        lab.race(spec, ["single", "ddp"])
    assert made and lab.runs() == []


def test_a_stop_ends_all_also_those_to_come():
    race = lab.race(endless(), ["ddp", "single"])
    until(lambda: race.runs[0].summary()["step"] > 0)
    assert race.runs[1].state == "queued"
    assert race.wait(0.05) == ["running", "queued"]
    race.stop()
    assert race.wait(60) == ["stopped", "stopped"]
    assert not race.runs[1].rows("train")
    assert race.runs[1].remark == "stopped before it began"


@pytest.mark.slow
def test_it_goes_on_without_the_kernel(home):
    code = (
        "import os, signal, lepton_lab as lab\n"
        "race = lab.race(lab.Spec(model='mlp', epochs=2, world=2), ['single', 'ddp', 'single'])\n"
        "print(*[run.id for run in race.runs], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    race = lab.Race([lab.attach(id) for id in ended.stdout.split()])
    assert len(race.runs) == 3
    assert race.wait(120) == ["done"] * 3


def test_runs_to_come_are_interrupted_when_their_supervisor_is_killed():
    race = lab.race(endless(), ["single", "ddp"])
    until(lambda: race.runs[0].summary()["step"] > 0)
    os.kill(ranks_of(race.runs[0])[0].ppid(), signal.SIGKILL)
    assert race.wait(60) == ["interrupted", "interrupted"]


def test_tolerances_follow_precision_device_and_optimizer():
    sgd = lab.Spec(optimizer="sgd")
    assert tolerances(sgd, 10, gpu=False) == (1e-5, 1e-5)
    assert tolerances(sgd, 1000, gpu=False) == (1e-5, pytest.approx(1e-3))
    assert tolerances(sgd, 10, gpu=True)[0] > 1e-5
    assert tolerances(sgd.replace(precision="bf16"), 10, gpu=False)[0] > tolerances(sgd, 10, gpu=True)[0]
    assert tolerances(lab.Spec(optimizer="adam", lr=0.01), 100, gpu=False)[1] == pytest.approx(0.1)
    assert exact(sgd)


def test_the_command_line_runs_a_race(tmp_path):
    from click.testing import CliRunner

    from lepton_lab.cli import main

    words = ["race", "--strategy", "single", "--strategy", "ddp:find_unused_parameters=true,world=2", "--model", "mlp"]
    words += ["--epochs", "1", "--out", str(tmp_path / "race.html")]
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [row["check"] for row in told["race"]] == ["the reference", "equal"]
    page = (tmp_path / "race.html").read_text()
    assert "Strategies side by side" in page
    assert "parameter difference" in page
    before = len(lab.runs())
    for named in ("ddp:world=2:x", "ddp:compress=zip", "single:world=2"):
        result = CliRunner().invoke(main, ["race", "--strategy", named, "--strategy", "single", "--model", "mlp"])
        assert result.exit_code == 2
    assert "world=2: strategy='single' is one process" in result.stderr
    assert len(lab.runs()) == before  # nothing was started
