"""Nodes of torchrun's agents, here all on this machine: one curve, one control, a node that is lost and comes back."""

import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from helpers import gone, ranks_of, until

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.files import data_root
from lepton_lab.launchers.remote import begin
from lepton_lab.launchers.torchrun.coordinator import _own_address
from lepton_lab.launchers.torchrun.node import _at_work, _plan
from lepton_lab.launchers.torchrun.plan import Plan
from lepton_lab.store.folder import RunFolder

HOSTS = ["localhost", "localhost"]


def losses(run, last):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def stopped_at(spec, step):
    """A run on this machine alone."""
    run = lab.launch(spec)
    until(lambda: run.store.story().step > step)
    run.stop()
    assert run.wait(60) == "stopped"
    return run


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


def test_nodes_compute_what_one_machine_does_and_a_run_moves_between_them(spec):
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, hosts=HOSTS))
    until(lambda: run.store.story().step > 10)
    sockets = [each for process in ranks_of(run) for each in process.net_connections() if each.status == "LISTEN"]
    assert {each.laddr.ip for each in sockets} == {"127.0.0.1"}, "nobody else can reach a run on one machine"
    run.pause()
    until(lambda: run.state == "paused")
    run.set(lr=1e-4)
    run.resume()
    until(lambda: any(row.get("command") == "set" for row in run.rows("note")))
    run.stop()
    assert run.wait(60) == "stopped"
    assert not run.remark
    assert not any("rewind" in row for row in run.rows("note")), "nothing was to be done again"
    at = run.store.story().step
    run.resume(on="local")
    until(lambda: run.store.story().step > at)
    assert run.store.glance().step > at
    run.stop()
    assert run.wait(60) == "stopped"
    assert losses(run, 10) == pytest.approx(losses(stopped_at(spec, 10), 10), rel=1e-5)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_the_steps_since_the_checkpoint_and_comes_back(spec):
    run = lab.launch(spec, on=lab.Torchrun(nodes="1:2", hosts=HOSTS))
    until(lambda: run.store.checkpoints())
    node = run.facts["nodes"][1]
    os.kill(node["pid"], signal.SIGKILL)
    until(lambda: run.facts["attempt"] > 1 and run.state == "running")
    until(lambda: run.facts["world"] == 2 and sum(not each["lost"] for each in run.facts["nodes"]) == 2)
    until(lambda: run.state == "running")
    run.stop()
    assert run.wait(60) == "stopped"
    again = [row["rewind"] for row in run.rows("note") if row.get("rewind")]
    assert again, "it went on from a checkpoint"
    assert losses(run, 10) == pytest.approx(losses(stopped_at(spec, 10), 10), rel=1e-5)


def test_nothing_outlives_a_supervisor_that_is_killed(spec):
    run = lab.launch(spec.replace(world=1), on=lab.Torchrun(hosts=["localhost"]))
    until(lambda: run.store.checkpoints())
    node = psutil.Process(run.facts["nodes"][0]["pid"])
    processes = [node, *node.children(recursive=True)]
    assert ranks_of(run)[0] in processes
    node.parent().kill()
    until(lambda: gone(processes))
    assert run.state == "interrupted"


@pytest.mark.slow
def test_a_rank_that_raises_ends_the_run_with_its_card(spec):
    def broken(output, target):
        raise ValueError("my own")

    run = lab.launch(spec, loss=broken, on=lab.Torchrun(nodes=2, hosts=HOSTS))
    assert run.wait(90) == "failed"
    assert (run.failure.type, run.failure.message) == ("ValueError", "my own")
    assert "test_torchrun.py" in run.failure.where


@pytest.fixture
def hosts():
    """Two hosts made of network namespaces: their names, and their network, in which this one is .1, they .2 and .3."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need ip and root")
    bridge, network = f"lep{os.getpid()}", f"10.77.{os.getpid() % 250}"  # other sessions have their own
    names = [f"{bridge}{letter}" for letter in "ab"]
    begin = [
        f"ip link add {bridge} type bridge",
        f"ip addr add {network}.1/24 dev {bridge}",
        f"ip link set {bridge} up",
    ]
    for number, name in enumerate(names, 2):
        begin += [
            f"ip netns add {name}",
            f"ip link add {name} type veth peer name eth0 netns {name}",
            f"ip link set {name} master {bridge} up",
            f"ip -n {name} addr add {network}.{number}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for command in begin:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield names, network
    finally:
        for command in [*(f"ip netns del {name}" for name in names), f"ip link del {bridge}"]:
            subprocess.run(command.split(), check=False, capture_output=True)


@pytest.mark.slow
def test_a_link_that_is_cut_shortly_costs_nothing_and_else_the_others_go_on(spec, hosts):
    names, network = hosts
    run = lab.launch(spec.replace(timeout=8), on=lab.Torchrun(nodes="1:2", address=f"{network}.1"))
    until(lambda: "lepton-lab node" in run.remark)
    command = [sys.executable, "-P", "-m", "lepton_lab", "node", str(run.folder)]
    with (run.folder / "logs" / "nodes.log").open("w") as log:
        each = {"stdout": log, "stderr": log}
        nodes = [subprocess.Popen(["ip", "netns", "exec", name, *command], **each) for name in names]
    until(lambda: run.facts.get("world") == 2 and run.store.checkpoints())
    link = ["ip", "link", "set", names[1]]
    for seconds, life in ((3, 1), (15, 2)):
        subprocess.run([*link, "down"], check=True)
        time.sleep(seconds)
        assert run.facts["attempt"] == life, "a life more only after the timeout"
        subprocess.run([*link, "up"], check=True)
        step = run.store.story().step
        until(lambda step=step: run.facts["world"] == 2 and run.store.story().step > step)
    assert sum(not node["lost"] for node in run.facts["nodes"]) == 2
    run.stop()
    assert run.wait(60) == "stopped"
    assert [node.wait(30) for node in nodes] == [0, 0]


def test_a_run_without_hosts_says_what_to_give_on_each_and_can_be_called_off(spec):
    run = lab.launch(spec.replace(timeout=100), on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    until(lambda: "lepton-lab node" in (run.facts.get("reason") or ""))
    assert "0 of at least 2" in run.remark
    plan = Plan.read(run.folder)
    assert (plan.timeout, plan.data) == (100, str(data_root()))
    run.stop()
    assert run.wait(60) == "stopped"


@pytest.mark.slow
def test_a_stop_does_not_wait_for_nodes_of_which_some_are_there(spec):
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    until(lambda: "lepton-lab node" in run.remark)
    with (run.folder / "logs" / "nodes.log").open("w") as log:
        command = [sys.executable, "-P", "-m", "lepton_lab", "node", str(run.folder)]
        node = subprocess.Popen(command, stdout=log, stderr=log)
    until(lambda: "1 of at least 2" in run.remark)
    run.stop()
    assert run.wait(60) == "stopped"
    assert run.remark == "stopped while it waited for nodes"
    assert node.wait(30) == 0


def test_what_ssh_says_of_a_host_that_can_t_be_reached_is_shown(spec, tmp_path, monkeypatch):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho Permission denied >&2\nexit 255\n")
    ssh.chmod(0o755)
    with monkeypatch.context() as own:
        own.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        run = lab.launch(spec.replace(world=1), on=lab.Torchrun(hosts=["node1"], address="127.0.0.1"))
        until(lambda: "node1 said: Permission denied" in run.remark)
    run.stop()
    assert run.wait(60) == "stopped"


def test_the_address_of_this_machine_is_that_on_the_way_to_others():
    with pytest.raises(LabError, match="'fe80::1' reaches this machine is not known"):
        _own_address(["me@fe80::1"])
    assert _own_address(["me@127.0.0.1"]) == "127.0.0.1"


def test_a_node_asks_for_a_checkpoint_only_where_enough_others_are_at_work(spec):
    folder = RunFolder.create(spec)
    us, other = ({"host": "a", "address": "10.0.0.1", "pid": 1, "since": since} for since in (2.0, 1.0))
    member = SimpleNamespace(about=us)
    for state, lost, least, at_work in [
        ("running", False, 1, True),
        ("running", False, 2, False),  # it is we whom they wait for
        ("running", True, 1, False),
        ("starting", False, 1, False),
    ]:
        folder.set_state(state, nodes=[{**other, "lost": lost}, {**us, "lost": False}])
        assert _at_work(folder, member, least) == at_work


def test_ranks_that_begin_again_in_a_pause_pause(spec):
    folder = RunFolder.create(spec)
    for state, pauses in (("running", False), ("paused", True)):
        folder.set_state(state, evaluating=True)
        begin(folder, world=1)
        assert any(path.name.endswith("-pause.json") for path in (folder.path / "control").iterdir()) == pauses
        facts = folder.facts
        assert (facts["state"], facts["world"], facts["evaluating"]) == ("starting", 1, False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nodes": 0}, "nodes=0"),
        ({"nodes": "4:2"}, "nodes='4:2'"),
        ({"nodes": 2, "hosts": "node1"}, "hosts='node1'"),
        ({"nodes": 2, "hosts": 3}, "hosts=3"),
        ({"nodes": 2, "address": 5}, "address=5"),
        ({"nodes": 2, "hosts": ["localhost"]}, "1 were given"),
    ],
)
def test_what_makes_no_sense_is_refused(values, words):
    with pytest.raises(SpecError, match=words):
        lab.Torchrun(**values)


def test_a_run_that_takes_no_nodes_says_so(tiny):
    run = lab.launch(tiny)
    assert run.wait(60) == "done"
    with pytest.raises(LabError, match="takes no nodes: launch one"):
        _plan(run.store)
    run.store.note(launcher=lab.Torchrun(nodes=1).facts)
    with pytest.raises(LabError, match="is done and takes no nodes"):
        _plan(run.store)


def test_what_the_nodes_can_t_do_is_refused(spec):
    with pytest.raises(SpecError, match="take world=3"):
        lab.launch(spec, on=lab.Torchrun(nodes=3, hosts=["localhost"] * 3))
    with pytest.raises(SpecError, match="parameter_server"):
        lab.launch(spec.replace(strategy="hogwild"), on=lab.Torchrun(nodes=2, hosts=HOSTS))
    groups = spec.replace(strategy="hybrid", world=4, options={"shard": 2})
    with pytest.raises(SpecError, match="nodes='2:4': with 3 of them the run could not go on, since .*world=3"):
        lab.Torchrun(nodes="2:4").check(groups)
    lab.Torchrun(nodes="1:2").check(groups)
    with pytest.raises(SpecError, match="on='cluster'"):
        lab.launch(spec, on="cluster")
    assert not lab.runs()
