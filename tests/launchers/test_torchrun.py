"""Nodes of torchrun's agents, here all on this machine: one curve, one control, a node that is lost and comes back."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import until

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.files import data_root, write_json
from lepton_lab.host import machine
from lepton_lab.launchers import written
from lepton_lab.launchers.remote import Unfit, begin, versions
from lepton_lab.launchers.torchrun import agent, coordinator, node
from lepton_lab.launchers.torchrun.coordinator import Coordination, Nodes, own_address
from lepton_lab.launchers.torchrun.node import _plan
from lepton_lab.launchers.torchrun.plan import Plan, served
from lepton_lab.launchers.torchrun.worker import _sharing
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
def node_here():
    """Function that starts a node of this machine, by the command that the run says."""
    nodes = []

    def start(run):
        until(lambda: "lepton-lab node" in run.remark or run.facts.get("nodes"))
        with (run.folder / "logs" / "nodes.log").open("a") as log:
            command = [sys.executable, "-P", "-m", "lepton_lab", "node", str(run.folder)]
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return nodes[-1]

    yield start
    for each in nodes:
        each.kill()
        each.wait()


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_the_steps_since_the_checkpoint_and_comes_back(spec):
    run = lab.launch(spec, on=lab.Torchrun(nodes="1:2", hosts=HOSTS))
    until(lambda: run.store.checkpoints())
    there = run.facts["nodes"][1]
    os.kill(there["pid"], signal.SIGKILL)
    until(lambda: run.facts["attempt"] > 1 and run.state == "running")
    until(lambda: run.facts["world"] == 2 and sum(not each["lost"] for each in run.facts["nodes"]) == 2)
    until(lambda: run.state == "running")
    run.stop()
    assert run.wait(60) == "stopped"
    again = [row["rewind"] for row in run.rows("note") if row.get("rewind")]
    assert again, "it went on from a checkpoint"
    assert losses(run, 10) == pytest.approx(losses(stopped_at(spec, 10), 10), rel=1e-5)


def test_a_run_without_hosts_says_what_to_give_on_each_and_can_be_called_off(spec):
    run = lab.launch(spec.replace(timeout=100), on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    until(lambda: "lepton-lab node" in (run.facts.get("reason") or ""))
    assert "0 of at least 2" in run.remark
    plan = Plan.read(run.folder)
    assert (plan.timeout, plan.data) == (100, str(data_root()))
    run.stop()
    assert run.wait(60) == "stopped"


@pytest.mark.slow
def test_a_stop_does_not_wait_for_nodes_of_which_some_are_there(spec, node_here):
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    there = node_here(run)
    until(lambda: "1 of at least 2" in run.remark)
    run.stop()
    assert run.wait(60) == "stopped"
    assert run.remark == "stopped while it waited for nodes"
    assert there.wait(30) == 0


@pytest.mark.slow
def test_a_node_that_was_taken_for_lost_begins_with_those_that_went_on_without_it(spec, node_here):
    run = lab.launch(spec, on=lab.Torchrun(nodes="1:2", address="127.0.0.1"))
    nodes = [node_here(run)]
    until(lambda: run.store.checkpoints())
    run.pause()
    until(lambda: run.state == "paused")
    nodes[0].send_signal(signal.SIGSTOP)  # its rank is there still, waits for no other, and would take commands
    nodes.append(node_here(run))
    until(lambda: run.facts["attempt"] == 2 and run.state == "paused")
    assert run.facts["world"] == 1
    nodes[0].send_signal(signal.SIGCONT)
    until(lambda: run.facts["world"] == 2 and run.state == "paused")
    run.resume()
    until(lambda: run.state == "running")
    run.stop()
    assert run.wait(60) == "stopped"
    assert [each.wait(30) for each in nodes] == [0, 0]
    assert not run.frame("train").duplicated(["rank", "step"]).any()


@pytest.mark.slow
def test_a_node_that_falls_silent_while_others_meet_with_it_takes_none_along(spec, node_here):
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    nodes = [node_here(run)]
    until(lambda: "1 of at least 2" in run.remark)
    nodes.append(node_here(run))
    store = Plan.read(run.folder).connect()
    until(lambda: store.check(["join0", "join1"]))
    nodes[0].send_signal(signal.SIGSTOP)  # the other waits for what it says, in vain
    time.sleep(agent.ANSWER + 2)
    nodes[0].send_signal(signal.SIGCONT)
    until(lambda: run.store.checkpoints())
    run.stop()
    assert run.wait(60) == "stopped"
    assert [each.wait(30) for each in nodes] == [0, 0]


@pytest.fixture
def plan(monkeypatch):
    """Of a run for two or three nodes, with a store that is there; what an agent says to torch is forgotten."""
    place = {"device": "cpu", "timeout": 60.0, "cwd": "", "modules": [], "data": ""}
    meeting = {"address": "127.0.0.1", "port": served("127.0.0.1").port, "least": 2, "most": 3, "ranks": 1}
    with monkeypatch.context() as own:
        own.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
        yield Plan(life="a", versions=versions(), **place, **meeting)


def test_rank_0_ends_when_others_have_begun_later(plan, tmp_path):
    plan.write(tmp_path)
    code = (
        "import pathlib, sys, time; from lepton_lab.launchers.torchrun import plan, worker; "
        "print(worker._counted(plan.Plan.read(pathlib.Path(sys.argv[1]))), flush=True); time.sleep(60)"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **streams) as rank:
        assert rank.stdout.readline() == "1\n"
        assert rank.poll() is None
        plan.connect().add("beginnings", 1)
        assert "others have begun without this node" in rank.stderr.read()
    assert rank.returncode == 1


def meeting_of(plan):
    """What the agent of a node meets by."""
    return agent.make(plan, plan.address, "", "").get_worker_group().spec.rdzv_handler


def test_a_node_that_comes_when_all_have_ended_ends_too(plan, capfd, monkeypatch):
    meeting_of(plan).shutdown()
    with monkeypatch.context() as own:
        own.setattr(agent, "AGAIN", -1.0)  # to meet again, for ever, is an error
        assert agent.run(agent.make(plan, plan.address, "", ""), lambda: False) == 1
    assert "the other nodes have ended" in capfd.readouterr().err


@pytest.mark.slow
def test_nodes_that_were_silent_all_at_once_come_where_another_waits(plan):
    """As where the machine that launched the run slept."""
    two, late = [meeting_of(plan) for _ in range(2)], meeting_of(plan)
    with ThreadPoolExecutor() as pool:
        assert {each.rank for each in pool.map(type(two[0]).next_rendezvous, two)} == {0, 1}
        for each in two:
            each._stop_heartbeats()
        time.sleep(agent.SIGNS + 1)
        assert not any(each.num_nodes_waiting() for each in two), "they need not begin again for that"
        third = pool.submit(late.next_rendezvous)
        until(lambda: all(each.num_nodes_waiting() for each in two))
        assert {each.world_size for each in pool.map(type(two[0]).next_rendezvous, two)} == {3}
        assert third.result().world_size == 3
    for each in (*two, late):
        each._stop_heartbeats()


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Function that puts a script in the place of ssh: what it is asked to do there is "$4", its host "$3"."""

    def replace(*lines):
        path = tmp_path / "ssh"
        path.write_text("\n".join(["#!/bin/sh", *lines]))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    with monkeypatch.context() as monkeypatch:
        yield replace


def test_what_ssh_says_of_a_host_that_can_t_be_reached_now_is_shown(spec, ssh):
    ssh("echo Connection refused >&2", "exit 255")
    run = lab.launch(spec.replace(world=1), on=lab.Torchrun(hosts=["node1"], address="127.0.0.1"))
    until(lambda: "node1 said: Connection refused" in run.remark)
    run.stop()
    assert run.wait(60) == "stopped"
    assert not (run.folder / "nodes.json").exists()


@pytest.mark.parametrize(
    ("said", "code", "remedy"),
    [
        ("ssh: Could not resolve hostname node1: Name or service not known", 255, "name the machine as ssh knows it"),
        ("Permission denied (publickey).", 255, "without asking anything"),
        ("sh: 1: /nowhere/python: not found", 127, "python=..."),
        ("ModuleNotFoundError: No module named 'lepton_lab'", 1, "install the same environment there"),
    ],
)
def test_a_host_that_will_never_do_ends_the_run_with_a_sentence(spec, ssh, said, code, remedy):
    ssh(f'echo "{said}" >&2', f"exit {code}")
    hosts = ["node1", "localhost"][: 1 + (code == 127)]  # of which the other is ended
    run = lab.launch(spec, on=lab.Torchrun(nodes=len(hosts), hosts=hosts, address="127.0.0.1"))
    assert run.wait(60) == "failed"
    assert run.failure.message.startswith(f"it lacks nodes, and would for ever: node1: {said.rstrip('.')}; ")
    assert remedy in run.failure.message


@pytest.mark.slow
def test_a_host_that_will_never_do_is_done_without_where_enough_are_there(spec, ssh):
    ssh("echo Permission denied >&2", "exit 255")
    run = lab.launch(spec, on=lab.Torchrun(nodes="1:2", hosts=["node1", "localhost"], address="127.0.0.1"))
    until(lambda: run.store.checkpoints())
    assert any("node1 takes no part: Permission denied" in row.get("text", "") for row in run.rows("note"))
    run.stop()
    assert run.wait(60) == "stopped"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a machine that shares no folder is one with mounts of its own, for root")
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("mount -t tmpfs none {home}", "is not the folder that the run was launched in: put LEPTON_LAB_HOME on"),
        ("mount --bind {home} {home} && mount -o remount,ro,bind {home}", "can't be written on"),
    ],
)
def test_a_folder_that_the_machines_don_t_share_is_found_before_the_start(spec, ssh, home, mount, words):
    ssh(f'exec unshare -m sh -c \'{mount.format(home=home)} && exec "$0" -c "$1"\' sh "$4"')
    run = lab.launch(spec.replace(world=1), on=lab.Torchrun(hosts=["node1"], address="127.0.0.1"))
    assert run.wait(60) == "failed"
    assert words in run.failure.message
    assert run.facts.get("attempt") is None, "no rank has begun"


@pytest.mark.slow
def test_a_machine_with_fewer_gpus_than_ranks_takes_no_part(spec, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = lab.launch(spec.replace(device="cuda"), on=lab.Torchrun(hosts=["localhost"]))
    assert run.wait(60) == "failed"
    assert "shows 0 GPUs, and each node has 2 ranks: take a smaller world" in run.failure.message
    assert run.facts.get("attempt") is None and run.facts["nodes"] is None, "nothing has begun"


def test_a_machine_with_another_environment_takes_no_part(spec):
    folder = RunFolder.create(spec)
    place = {"device": "cpu", "timeout": 1.0, "cwd": "/", "modules": [], "data": ""}
    meeting = {"address": "127.0.0.1", "port": 1, "least": 1, "most": 1, "ranks": 1}
    for name in versions():
        other = {**versions(), name: "0.0.1"}
        Plan(life="a", versions=other, **place, **meeting).write(folder.path)
        with pytest.raises(Unfit, match=f"has {name} {versions()[name]}, and the run was launched with 0.0.1: install"):
            Plan.read(folder.path).refuse()
    Plan(life="a", versions=versions(), **place, **meeting).refuse()


def test_a_node_waits_for_the_plan_of_the_life_that_begins(spec, monkeypatch):
    """Not one that an earlier life left, whose supervisor was killed."""
    folder = RunFolder.create(spec, lambda draft: write_json(draft / "state.json", {"state": "queued", "t": 0.0}))
    folder.note(launcher=lab.Torchrun(nodes=1).facts)
    write_json(folder.path / "nodes.json", {"life": "old"})
    lock = folder.lock()
    found = []
    thread = threading.Thread(target=lambda: found.append(_plan(folder)))
    thread.start()
    needs = {"folder": str(folder.path), "device": "cpu", "world": 1, "launcher": folder.facts["launcher"]}
    coming = Coordination(needs, lock, {"cwd": "/", "path": []}, safe=True)
    assert coming.lease() == []
    coming.tell("starting")
    time.sleep(0.3)
    assert not found
    new = Plan.of(coming, address="127.0.0.1", port=1, least=1, most=1, ranks=1)
    new.write(folder.path)
    thread.join()
    assert found == [new]
    coming.log.close()
    os.close(lock)


def test_the_address_of_this_machine_is_that_on_the_way_to_others():
    with pytest.raises(LabError, match="'fe80::1' reaches this machine is not known"):
        own_address(["me@fe80::1"])
    assert own_address(["me@127.0.0.1"]) == "127.0.0.1"


@pytest.mark.parametrize(
    ("state", "lost", "least", "saves"),
    [
        ("running", False, 1, True),
        ("running", False, 2, False),  # it is we whom they wait for
        ("running", True, 1, False),
        ("starting", False, 1, False),
    ],
)
def test_a_node_that_comes_has_others_save_only_where_enough_are_at_work(spec, monkeypatch, state, lost, least, saves):
    folder, store = RunFolder.create(spec), served("127.0.0.1")
    needs = {"folder": str(folder.path), "launcher": {"least": least, "most": 2}}
    coordination = Coordination(needs, -1, {}, safe=True)
    coordination.nodes = Nodes(store)
    for number in range(2):
        store.add("nodes", 1)
        store.set(f"node{number}", json.dumps({"host": "a", "address": "10.0.0.1", "pid": 1, "since": number}))
    coordination.nodes.look()
    if lost:
        monkeypatch.setattr(coordinator, "SILENT", 0.0)
        store.add("beat1", 1)
        coordination.nodes.look()
    store.set("join1", "")
    folder.set_state(state)
    coordination._welcome()
    asked = [path for path in (folder.path / "control").iterdir() if path.name.endswith("-checkpoint.json")]
    assert bool(asked) == saves and store.check(["welcome1"]) != saves
    folder.set_state("starting")  # they have ended meanwhile
    coordination._welcome()
    assert store.check(["welcome1"])
    coordination.log.close()


def test_ranks_share_the_cores_of_their_machine_with_those_of_its_other_nodes(spec):
    folder, plan = RunFolder.create(spec), SimpleNamespace(ranks=3)
    here, there = ({"machine": name, "lost": False} for name in (machine(), "another"))
    for nodes, ranks in (([here, there], 3), ([here, here, there], 6), ([here, {**here, "lost": True}], 3), ([], 3)):
        folder.note(nodes=nodes)
        assert _sharing(folder, plan) == ranks


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
    run.store.note(launcher=lab.Ray().facts)
    with pytest.raises(LabError, match="takes no nodes: launch one"):
        _plan(run.store)
    run.store.note(launcher=lab.Torchrun(nodes=1).facts)
    with pytest.raises(LabError, match="is done and takes no nodes"):
        _plan(run.store)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("foo://x/runs/1", "'foo://x' can't be opened"),
        ("file:///{home}/store", "names no run: give its address in full, as s3://bucket/prefix/runs/ID"),
        ("file://{home}/store/runs/another", "finds no run 'another' that takes nodes at 'file://{home}/store'"),
        ("file://{home}/typo/runs/1", "finds no run '1' that takes nodes at .*: give the command that the run says"),
    ],
)
def test_an_address_at_which_no_run_takes_nodes_is_refused_and_leaves_nothing(home, monkeypatch, place, words):
    monkeypatch.setattr(node, "BROUGHT", 0.5)
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    with pytest.raises(LabError, match=words.format(home=home)):
        node.main(place.format(home=home))
    assert not [*home.glob("lepton-lab/stores/*/nodes/[!.]*")] and not (home / "typo").exists()


def test_what_the_nodes_can_t_do_is_refused(spec):
    with pytest.raises(SpecError, match="take world=3"):
        lab.launch(spec, on=lab.Torchrun(nodes=3, hosts=["localhost"] * 3))
    with pytest.raises(SpecError, match="parameter_server"):
        lab.launch(spec.replace(strategy="hogwild"), on=lab.Torchrun(nodes=2, hosts=HOSTS))
    groups = spec.replace(strategy="hybrid", world=4, options={"shard": 2})
    with pytest.raises(SpecError, match="nodes='2:4': with 3 of them the run could not go on, since .*world=3"):
        lab.Torchrun(nodes="2:4").check(groups)
    lab.Torchrun(nodes="1:2").check(groups)
    for address, why in (("no.such.host.invalid", "resolves to nothing"), ("192.0.2.1", "is not of this machine")):
        with pytest.raises(SpecError, match=f"address={address!r}: {why}; name an IPv4 address"):
            lab.launch(spec, on=lab.Torchrun(nodes=2, address=address))
    with pytest.raises(SpecError, match="on='cluster'"):
        lab.launch(spec, on="cluster")
    with pytest.raises(SpecError, match=r"on=array\(\[1, 2\]\): must be 'local'"):
        lab.launch(spec, on=np.array([1, 2]))
    with pytest.raises(SpecError, match="hosts=.*: must be a list of names"):
        lab.Torchrun(hosts=["-oProxyCommand=true"])
    with pytest.raises(SpecError, match="must be 'local', or a launcher with its settings"):
        written({5: {}})
    assert not lab.runs()
