"""Jobs of Slurm: by submitit's own executor on this machine, and by real daemons where they are installed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
import slurm_cluster
from helpers import gone, ranks_of, until
from slurm_cluster import said

import lepton_lab as lab
from lepton_lab.errors import Missing, SpecError

pytest.importorskip("submitit")


def losses(run, last):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def rewinds(run):
    """The steps from which ranks went on."""
    return {row["rewind"] for row in run.rows("note") if row.get("rewind")}


def undisturbed(spec, last):
    """The same of a run on this machine alone."""
    run = lab.launch(spec)
    until(lambda: run.store.story().step > last)
    run.stop()
    assert run.wait(60) == "stopped"
    return pytest.approx(losses(run, last), rel=1e-5)


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=0, batch_size=128)


@pytest.mark.slow
def test_a_job_that_is_told_saves_and_goes_on_with_the_next_step(spec):
    run = lab.launch(spec, on=lab.Slurm(cluster="local"))
    until(lambda: run.store.story().step > 10)
    assert not run.store.checkpoints()
    task = psutil.Process(run.facts["nodes"][0]["pid"])
    for process in [task, *task.children(recursive=True)]:  # as Slurm does
        process.send_signal(signal.SIGUSR2)
    until(lambda: rewinds(run))
    assert rewinds(run) == {*run.store.checkpoints()}
    run.stop()
    assert run.wait(60) == "stopped"
    assert run.facts["attempt"] == 2
    assert losses(run, 10) == undisturbed(spec, 10)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"time": "1h"}, "time='1h': must be a whole number, at least 1"),
        ({"time": 0}, "time=0"),
        ({"nodes": "1:2"}, "nodes='1:2'"),
        ({"partition": 3}, "partition=3: must be a text"),
        ({"account": "a\0"}, "account='a.x00': must have no control"),
        ({"setup": ["date", "a\0"]}, "setup='a.x00': must have no control"),
        ({"options": {"comment": "\0"}}, "options='.x00': must have no control"),
        ({"setup": "module load cuda"}, "must be a list of lines"),
        ({"options": ["--exclusive"]}, "must be pairs of name and value"),
        ({"options": {"constraint": ["a100"]}}, "must be pairs of name and value"),
        ({"cluster": "pbs"}, "must be 'slurm' or 'local'"),
    ],
)
def test_what_makes_no_sense_is_refused(values, words):
    with pytest.raises(SpecError, match=words):
        lab.Slurm(**values)


def test_what_is_missing_is_said_before_anything_starts(spec, tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="take world=3"):
        lab.launch(spec, on=lab.Slurm(nodes=3, cluster="local"))
    with monkeypatch.context() as own:
        own.setenv("PATH", str(tmp_path))
        with pytest.raises(SpecError, match="there is no sbatch here; launch on a machine that"):
            lab.launch(spec, on=lab.Slurm())
        own.setitem(sys.modules, "submitit", None)
        with pytest.raises(Missing, match=r"pip install 'lepton-lab\[slurm\]'"):
            lab.launch(spec, on=lab.Slurm())
    assert not lab.runs()


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ("sbatch: error: invalid partition specified: x\nallocation failure: Invalid partition name specified", False),
        ("allocation failure: Required node not available (down, drained or reserved)", True),
    ],
)
def test_what_slurm_says_of_a_job_that_could_never_start_refuses_it(spec, tmp_path, monkeypatch, words, passes):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    place = lab.Slurm(partition="x")
    if passes:
        place.check(spec)
    else:
        with pytest.raises(SpecError, match="invalid partition specified: x; allocation failure: Invalid partition"):
            place.check(spec)


def test_a_job_that_a_killed_supervisor_left_is_cancelled_where_the_run_goes_on_here(spec, tmp_path, monkeypatch):
    scancel = tmp_path / "scancel"
    scancel.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    scancel.chmod(0o755)
    run = lab.launch(spec)
    run.stop()
    assert run.wait(60) == "stopped"
    run.store.note(launcher=lab.Slurm().facts, job="17")
    with monkeypatch.context() as own:
        own.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        run.resume(on="local")
    run.stop()
    assert run.wait(60) == "stopped"
    assert (tmp_path / "asked").read_text() == "17\n" and not run.facts["job"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A real Slurm of two nodes, and what is on the way there."""
    if why := slurm_cluster.missing():
        pytest.skip(why)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


def jobs():
    """Those that are in the queue or at work."""
    return said("squeue", "-h", "-o", "%i").split()


@pytest.mark.slow
def test_a_run_waits_in_the_queue_is_queued_again_and_cancelled(spec, slurm):
    other = said("sbatch", "--parsable", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until(lambda: said("squeue", "-h", "-t", "R", "-o", "%i").split() == [other])
    run = lab.launch(spec, on=lab.Slurm(partition="debug", time=60, nodes=2))
    until(lambda: "place 1 of 1" in run.remark)
    assert (run.state == "queued" and "(Resources)" in run.remark) or "(Priority)" in run.remark
    subprocess.run(["scancel", other], check=True)
    until(lambda: run.store.story().step > 10, 120)
    assert [node["host"] for node in run.facts["nodes"]] and len(run.facts["nodes"]) == 2
    job = run.facts["job"]
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    until(lambda: run.state == "queued", 120)
    saved = max(run.store.checkpoints())
    until(lambda: rewinds(run), 240)
    assert rewinds(run) == {saved} and run.facts["job"] == job
    until(lambda: run.store.story().step > saved)
    ranks = ranks_of(run)
    subprocess.run(["scancel", job], check=True)
    assert run.wait(60) == "stopped"
    assert run.remark == f"its job {job} was cancelled in Slurm"
    until(lambda: gone(ranks) and not jobs())
    assert losses(run, 10) == undisturbed(spec, 10)


@pytest.mark.slow
def test_a_dead_rank_ends_its_gang_which_goes_on_from_the_checkpoint_and_moves_here(spec, slurm):
    run = lab.launch(spec.replace(checkpoint_every=1), on=lab.Slurm(time=60, nodes=2))
    until(lambda: run.store.checkpoints(), 120)
    ranks = ranks_of(run)
    ranks[1].kill()
    until(lambda: gone(ranks))
    until(lambda: run.facts["attempt"] == 2 and run.state == "running", 120)
    run.stop()
    assert run.wait(60) == "stopped"
    until(lambda: not jobs())
    at = run.store.story().step
    run.resume(on="local")
    until(lambda: run.store.story().step > at)
    run.stop()
    assert run.wait(60) == "stopped"
    assert losses(run, 10) == undisturbed(spec, 10)


@pytest.mark.slow
def test_a_node_s_part_that_dies_has_another_job_submitted(spec, slurm):
    run = lab.launch(spec.replace(checkpoint_every=1), on=lab.Slurm(time=60, nodes=2))
    until(lambda: run.store.checkpoints() and len(run.facts["nodes"]) == 2, 120)
    job = run.facts["job"]
    os.kill(run.facts["nodes"][1]["pid"], signal.SIGKILL)
    until(lambda: run.facts["job"] != job, 120)
    until(lambda: run.facts["attempt"] > 1 and run.state == "running", 120)
    run.stop()
    assert run.wait(60) == "stopped"
    until(lambda: not jobs())


@pytest.mark.slow
def test_a_rank_that_raises_ends_the_job_and_a_stop_the_waiting(spec, slurm):
    def broken(output, target):
        raise ValueError("my own")

    run = lab.launch(spec, loss=broken, on=lab.Slurm(time=60))
    assert run.wait(120) == "failed"
    assert (run.failure.type, run.failure.message) == ("ValueError", "my own")
    until(lambda: not jobs())
    early = lab.launch(spec, on=lab.Slurm(setup=["echo no such module >&2; exit 3"]))
    assert early.wait(60) == "failed"
    assert early.failure.message.endswith("ended as FAILED before a node came: no such module")
    waiting = lab.launch(spec, on=lab.Slurm(time=60, options={"begin": "now+1hour"}))
    until(lambda: "(BeginTime)" in waiting.remark)
    waiting.stop()
    assert waiting.wait(60) == "stopped"
    assert not jobs()


@pytest.mark.slow
def test_a_job_whose_supervisor_was_killed_does_not_start_beside_another(spec, slurm):
    run = lab.launch(spec, on=lab.Slurm(time=60, options={"begin": "now+1hour"}))
    until(lambda: "(BeginTime)" in run.remark)
    before = run.facts["job"]
    next(p for p in psutil.process_iter() if p.name() == "lepton-super" and _holds(p, run)).kill()
    until(lambda: run.state == "interrupted")
    run.resume()
    until(lambda: run.facts["job"] not in (before, None))
    assert jobs() == [run.facts["job"]]
    next(p for p in psutil.process_iter() if p.name() == "lepton-super" and _holds(p, run)).kill()
    until(lambda: run.state == "interrupted")
    run.resume(on="local")
    until(lambda: not jobs() and run.store.story().step)
    run.stop()
    assert run.wait(60) == "stopped"


def _holds(process, run):
    return any(str(run.folder) in file.path for file in process.open_files())


@pytest.mark.slow
def test_what_slurm_refuses_is_said_in_its_words(spec, slurm):
    with pytest.raises(SpecError, match="invalid partition specified: gpuu; .*Invalid partition name specified"):
        lab.launch(spec, on=lab.Slurm(partition="gpuu"))
    with pytest.raises(SpecError, match="Requested node configuration is not available"):
        lab.launch(spec.replace(world=5), on=lab.Slurm(nodes=5))
    assert not lab.runs() and not jobs()
