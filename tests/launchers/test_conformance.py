"""
Every launcher keeps the contract: a run is the same wherever its ranks are, and leaves nothing there.

Who adds a launcher adds a line to PLACES.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
from helpers import gone, ranks_of, until

import lepton_lab as lab
from lepton_lab.launchers import LAUNCHERS, asked, failures, of
from lepton_lab.launchers.local import client
from lepton_lab.launchers.supervision import Supervision

PLACES = {
    "local": lambda: "local",
    "torchrun": lambda: lab.Torchrun(nodes=2, hosts=["localhost", "localhost"]),
    "slurm": lambda: lab.Slurm(cluster="local"),
    "ray": lab.Ray,
}
"""Of each launcher what `on=` takes for two ranks on this machine."""
FAILS, HANGS = 0.011, 0.012  # learning rates at which the last rank does


APART = "apart"  # nodes of torchrun's that share nothing with each other and the supervisor but a store
SLOW = [*PLACES, APART][1:]  # what these start takes half a minute; test_torchrun.py has agents in the quick set


@pytest.fixture(params=["local", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def place(request, home, monkeypatch):
    if request.param != APART:
        return PLACES[request.param]()
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.setenv("LEPTON_LAB_HOME", f"file://{home}/store")
    return PLACES["torchrun"]()


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


def ends_at(step):
    """A hook that stops its run, after a step as it is counted from the start."""
    return lambda moment: moment.stop() if moment.event == "step" and moment.step == step else None


def obeys(moment):
    """A hook by which a learning rate does harm."""
    if moment.event == "step" and moment.rank == 1:
        rate = moment.optimizer.param_groups[0]["lr"]
        if rate == FAILS:
            raise ValueError("my own")
        if rate == HANGS:
            time.sleep(600)


def reaches(run, step):
    until(lambda: run.store.story().step >= step)


def losses(run):
    """By step the mean over ranks."""
    return run.frame("train").groupby("step").loss.mean()


def holders(run):
    """Processes that have a file of a run's folder open, or of a copy of it: ranks, supervisor, what starts ranks."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(run.id in file.path for file in process.open_files()):
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def supervisor(run):
    log = str(run.folder / "logs" / "supervisor.log")
    return next(process for process in holders(run) if any(file.path == log for file in process.open_files()))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_is_known_by_its_facts_and_has_every_hook(name):
    kind, launcher = LAUNCHERS[name], asked(PLACES[name]())
    assert kind.name == name and type(launcher) is kind
    again = of({"launcher": json.loads(json.dumps(launcher.facts))})
    assert type(again) is kind and again.facts == launcher.facts
    supervision = kind.supervision()
    for hook in ("start", "state", "signal", "collect"):
        assert getattr(supervision, hook) is not getattr(Supervision, hook), hook


def test_a_run_moves_there_and_back_with_the_curve_of_one_that_stayed(place, spec):
    run = lab.launch(spec, hooks=[ends_at(10)])
    assert run.wait(60) == "stopped"
    first = run.store.story().step
    run.resume(on=place)
    reaches(run, first + 5)
    sockets = [each for process in ranks_of(run) for each in process.net_connections() if each.status == "LISTEN"]
    addresses = {each.laddr.ip.removeprefix("::ffff:") for each in sockets}
    assert addresses <= {"127.0.0.1"}, "nobody else can reach a run on one machine"
    run.pause()
    until(lambda: run.state == "paused")
    run.set(clip=1e9)  # which changes nothing
    run.resume()
    until(lambda: any(row.get("command") == "set" for row in run.rows("note")))
    run.stop()
    assert run.wait(60) == "stopped"
    assert not run.remark
    second = run.store.story().step
    run.resume(on="local")
    reaches(run, second + 5)
    run.stop()
    assert run.wait(60) == "stopped"
    went_on = [row["rewind"] for row in run.rows("note") if "rewind" in row]
    assert {*went_on} == {first, second}, "no step was to be done again"
    last = run.store.story().step
    stayed = lab.launch(spec, hooks=[ends_at(last - 1)])
    assert stayed.wait(60) == "stopped"
    moved, stayed = losses(run), losses(stayed)
    assert [*moved.index] == [*range(1, last + 1)] and len(stayed) >= last
    assert moved.tolist() == pytest.approx(stayed.tolist()[:last], rel=1e-5)
    for step in (first + 1, second + 1):
        assert moved[step] == pytest.approx(stayed[step], rel=1e-6)


@pytest.mark.slow
def test_a_run_moves_from_each_place_to_the_next_with_the_step_that_it_would_have_done(spec):
    run, moves = None, []
    for make in PLACES.values():
        if run is None:
            run = lab.launch(spec, on=make())
        else:
            moves.append(run.store.story().step)
            run.resume(on=make())
        reaches(run, sum(moves[-1:]) + 5)
        run.stop()
        assert run.wait(60) == "stopped"
    last = run.store.story().step
    stayed = lab.launch(spec, hooks=[ends_at(last - 1)])
    assert stayed.wait(60) == "stopped"
    moved, stayed = losses(run), losses(stayed)
    went_on = [row["rewind"] for row in run.rows("note") if "rewind" in row]
    assert {*went_on} == {*moves} and len(moves) == len(PLACES) - 1, "no step was to be done again"
    assert [*moved.index] == [*range(1, last + 1)]
    for step in moves:
        assert moved[step + 1] == pytest.approx(stayed[step + 1], rel=1e-6)
    assert moved.tolist() == pytest.approx(stayed.tolist()[:last], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("place", SLOW, indirect=True)  # test_supervisor.py has that of this machine
def test_nothing_outlives_a_supervisor_that_is_killed(place, spec):
    run = lab.launch(spec, on=place)
    until(lambda: run.store.checkpoints())
    processes = holders(run)
    assert {*ranks_of(run)} < {*processes}
    supervisor(run).kill()
    until(lambda: gone(processes))
    assert run.state == "interrupted"


@pytest.mark.slow
def test_a_rank_that_raises_ends_the_run_with_its_card(place, spec):
    run = lab.launch(spec, hooks=[obeys], on=place)
    until(lambda: run.store.checkpoints())
    processes = holders(run)
    run.set(lr=FAILS)
    assert run.wait(90) == "failed"
    failure = run.failure
    assert (failure.rank, failure.type, failure.message) == (1, "ValueError", "my own")
    assert "test_conformance.py" in failure.where and failure.checkpoint
    until(lambda: gone(processes))


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_and_a_stop_ends_it(place, spec, monkeypatch):
    client.close()
    # The supervisor's patience, shortened in a process of its own.
    monkeypatch.setenv("LEPTON_LAB_STANDBY", "0")
    sooner = "import lepton_lab.launchers.supervision as p; p.STOP = 1.0; "
    monkeypatch.setattr(client, "CODE", sooner + client.CODE)
    monkeypatch.setattr(failures, "STILL", 3.0)
    run = lab.launch(spec, hooks=[obeys], on=place)
    reaches(run, 5)
    processes = holders(run)
    run.set(lr=HANGS)
    line = 1 + Path(__file__).read_text().splitlines().index("            time.sleep(600)")
    until(lambda: f"rank 1 in {__file__}, line {line}" in run.remark)
    run.stop()
    assert run.wait(60) == "stopped"
    assert "did not reach the end of a step" in run.remark
    until(lambda: gone(processes))
