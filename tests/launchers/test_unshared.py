"""
Nodes that share no disk with anybody: what they do goes by an object store, moto's over HTTP.

Each is in a network namespace, and sees an empty folder where this machine has the runs.
"""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from helpers import ours, s3, until
from two_hosts import cut, killed, losses, processes, stop, whole

import lepton_lab as lab
from lepton_lab.store.folder import MEASURES
from lepton_lab.store.objects import link, saved
from lepton_lab.store.objects.bucket import Bucket
from lepton_lab.store.trained import ARTIFACT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(hosts):
    """A server that both hosts reach; s3fs's own thread is begun before any test's."""
    with s3(f"{hosts[1]}.1", ["lab"]) as server:
        yield server


@pytest.fixture
def address(server, home, monkeypatch):
    """Where runs of this machine go."""
    address = f"s3://lab/{home.name}"
    with monkeypatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", address)
        own.setenv("XDG_DATA_HOME", str(home / "here"))
        yield address
        server.send_signal(signal.SIGUSR2)
        for run in lab.runs():  # of a test that failed
            run.stop()
            run.wait(60)
        until(lambda: not any(process.name() == "lepton-carrier" for process in ours()))


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


def node(run, host, home):
    """A host's part in a run, by the command that the run says."""
    until(lambda: "lepton-lab node" in run.remark or run.facts.get("nodes"))
    command = [sys.executable, "-P", "-m", "lepton_lab", "node", f"{link.address(run.folder)}/runs/{run.id}"]
    alone = f'mount -t tmpfs none {home} && exec "$0" "$@"'
    words = ["ip", "netns", "exec", host, "unshare", "-m", "sh", "-c", alone, *command]
    with (run.folder / "logs" / f"{host}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "XDG_DATA_HOME": f"{home}/there"})


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "pipeline"])
def test_two_hosts_reach_the_loss_of_one(spec, address, hosts, home, strategy):
    names, network = hosts
    spec = spec.replace(strategy=strategy, epochs=1, checkpoint_every=0)
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address=f"{network}.1"))
    nodes = [node(run, name, home) for name in names]
    assert run.wait(120) == "done", run.failure
    assert [each.wait(30) for each in nodes] == [0, 0]
    alone = lab.launch(spec.replace(strategy="single", world=1))
    assert alone.wait(60) == "done"
    steps = alone.store.story().step - 1  # the last has fewer samples, of which ranks have not as many each
    assert losses(run, steps) == pytest.approx(losses(alone, steps), rel=1e-5)
    weights = alone.model().state_dict()
    for name, value in run.model().state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)


def test_what_is_killed_costs_the_steps_since_the_checkpoint(spec, address, hosts, home):
    names, network = hosts
    run = lab.launch(spec.replace(timeout=15), on=lab.Torchrun(nodes="1:2", address=f"{network}.1"))
    nodes = [node(run, name, home) for name in names]
    for victim in ("rank", "agent", "host"):
        whole(run)
        if killed(run, names[1], nodes[1], victim):
            nodes[1] = node(run, names[1], home)
    whole(run)
    at = run.store.story().step
    supervisor = next(each for each in psutil.Process().children(recursive=True) if each.name() == "lepton-super")
    supervisor.kill()
    for each in nodes:
        each.wait(60)
    assert run.state == "interrupted"
    run.resume()
    nodes = [node(run, name, home) for name in names]
    until(lambda: run.store.story().step > at, 120)
    whole(run)
    stop(run, nodes)
    run.resume(on="local")
    at = run.store.story().step
    until(lambda: run.store.story().step > at + 10)
    run.stop()
    assert run.wait(60) == "stopped"
    alone = lab.launch(spec.replace(epochs=1, checkpoint_every=0))
    assert alone.wait(60) == "done"
    assert losses(run, 10) == pytest.approx(losses(alone, 10), rel=1e-5)


def test_a_link_that_is_cut_shortly_costs_nothing_and_else_the_others_go_on(spec, address, hosts, home):
    names, network = hosts
    run = lab.launch(spec.replace(timeout=15), on=lab.Torchrun(nodes="1:2", address=f"{network}.1"))
    nodes = [node(run, name, home) for name in names]
    whole(run)
    until(lambda: run.store.checkpoints())
    leads = next(name for name in names if any(each.name() == "lepton-rank0" for each in processes(name)))
    cut(run, leads)  # whom all others ask at every step
    stop(run, nodes)
    rows = run.frame("train")
    assert not rows.duplicated(["rank", "step"]).any(), "what a node sent late of an earlier beginning is left out"


def test_a_store_that_goes_away_in_mid_save_costs_nothing(spec, server, address, hosts, home):
    names, network = hosts
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address=f"{network}.1"))
    nodes = [node(run, name, home) for name in names]
    whole(run)
    until(lambda: run.store.checkpoints())
    bucket, prefix = Bucket(address), f"runs/{run.id}/checkpoints"
    until(lambda: any(saved.COMMIT not in bucket.names(f"{prefix}/{name}") for name in bucket.names(prefix)))
    server.send_signal(signal.SIGUSR1)
    time.sleep(10)
    step = run.store.story().step
    server.send_signal(signal.SIGUSR2)
    until(lambda: run.store.story().step > step + 50, 120)
    assert run.facts["attempt"] == 1
    stop(run, nodes)
    left = {name.rpartition("-")[0] for name in bucket.names(prefix)}
    assert left == {f"step-{step:08d}" for step in run.store.checkpoints()}
    assert not bucket.names(f"runs/{run.id}/nodes")


def test_another_machine_watches_and_steers_and_goes_on(spec, address, hosts, home):
    names, network = hosts
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address=f"{network}.1"))
    nodes = [node(run, name, home) for name in names]
    whole(run)
    with pytest.MonkeyPatch.context() as own:
        own.setenv("XDG_DATA_HOME", str(home / "laptop"))
        far = lab.attach(run.id)
        assert far.folder != run.folder
        far.set(lr=1e-4)
        until(lambda: any(row.get("command") == "set" for row in far.rows("note")))
        far.pause()
        until(lambda: far.state == "paused")
        far.resume()
        far.checkpoint()
        step = far.store.glance().step
        until(lambda: far.store.glance().step > step)
        far.stop()
        assert far.wait(60) == "stopped"
        assert far.store.checkpoints() == run.store.checkpoints()
        weights = far.model().state_dict()
    assert [each.wait(30) for each in nodes] == [0, 0]
    assert all(torch.equal(weights[name], value) for name, value in run.model().state_dict().items())


def test_a_chain_is_done_by_ranks_that_share_no_disk(spec, address, hosts, home):
    names, network = hosts
    parent = lab.launch(spec.replace(strategy="single", world=1, epochs=1, checkpoint_every=0))
    assert parent.wait(60) == "done"
    place = lab.Torchrun(nodes=2, address=f"{network}.1")
    run = lab.compress(parent, [("prune", 0.5), "quantize"], epochs=1, strategy="ddp", world=2, on=place)
    nodes = [node(run, name, home) for name in names]
    assert run.wait(120) == "done", run.failure
    assert [each.wait(30) for each in nodes] == [0, 0]
    assert (run.folder / ARTIFACT).exists() and (run.folder / MEASURES).exists()
