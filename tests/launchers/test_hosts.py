"""Two hosts made of network namespaces: one loss whatever the strategy, and what is killed or cut off there."""

import subprocess
import sys

import psutil
import pytest
from helpers import until
from two_hosts import cut, killed, losses, stop, whole

import lepton_lab as lab

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


def node(run, host):
    """A host's part in a run, by the command that the run says."""
    until(lambda: "lepton-lab node" in run.remark or run.facts.get("nodes"))
    command = [sys.executable, "-P", "-m", "lepton_lab", "node", str(run.folder)]
    with (run.folder / "logs" / "nodes.log").open("a") as log:
        return subprocess.Popen(["ip", "netns", "exec", host, *command], stdout=log, stderr=log)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "pipeline"])
def test_two_hosts_reach_the_loss_of_one(spec, hosts, strategy):
    names, network = hosts
    spec = spec.replace(strategy=strategy, epochs=1, checkpoint_every=0)
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address=f"{network}.1"))
    nodes = [node(run, name) for name in names]
    assert run.wait(120) == "done", run.failure
    assert [each.wait(30) for each in nodes] == [0, 0]
    alone = lab.launch(spec.replace(strategy="single", world=1))
    assert alone.wait(60) == "done"
    steps = alone.store.story().step - 1  # the last has fewer samples, of which ranks have not as many each
    assert losses(run, steps) == pytest.approx(losses(alone, steps), rel=1e-5)


def test_a_rank_an_agent_a_host_and_the_store_that_are_killed_cost_the_steps_since_the_checkpoint(spec, hosts):
    names, network = hosts
    run = lab.launch(spec.replace(timeout=15), on=lab.Torchrun(nodes="1:2", address=f"{network}.1"))
    nodes = [node(run, name) for name in names]
    for victim in ("rank", "agent", "host"):
        whole(run)
        if killed(run, names[1], nodes[1], victim):
            nodes[1] = node(run, names[1])
    whole(run)
    at = run.store.story().step
    store = next(each for each in psutil.Process().children(recursive=True) if each.name() == "lepton-super")
    store.kill()
    for each in nodes:
        each.wait(60)
    assert run.state == "interrupted"
    run.resume()
    nodes = [node(run, name) for name in names]
    until(lambda: run.store.story().step > at, 120)
    whole(run)
    stop(run, nodes)
    alone = lab.launch(spec.replace(epochs=1, checkpoint_every=0))
    assert alone.wait(60) == "done"
    assert losses(run, 10) == pytest.approx(losses(alone, 10), rel=1e-5)


def test_a_link_that_is_cut_shortly_costs_nothing_and_else_the_others_go_on(spec, hosts):
    names, network = hosts
    run = lab.launch(spec.replace(timeout=15), on=lab.Torchrun(nodes="1:2", address=f"{network}.1"))
    nodes = [node(run, name) for name in names]
    whole(run)
    until(lambda: run.store.checkpoints())
    cut(run, names[1])
    stop(run, nodes)
