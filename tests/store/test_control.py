"""Commands reach all ranks at the same step, whatever the timing; events are cheap and complete; leases are fair."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_lab.launchers.devices import visible
from lepton_lab.launchers.local.leases import Queue, holders, root
from lepton_lab.store import control
from lepton_lab.store.control import Control
from lepton_lab.store.events import parse
from lepton_lab.store.log import Log


def obey(rank, step):
    found = []
    while command := rank.next(step):
        found.append((step, command["command"]))
    return found


class Unwatched(Control):
    """Rank 0 without its thread: the test says when a command is seen."""

    def _watch(self):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["set", "checkpoint", "stop"])), max_size=6),
    st.integers(1, 4),
)
def test_all_ranks_obey_at_the_same_step(tmp_path_factory, commands, lead):
    """The ranks of a synchronous strategy, run as slowly as it allows: rank 1 enters a step `lead` - 1 after rank 0."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "control").mkdir()
    ranks = [Unwatched(folder, rank, 2, lead) for rank in (0, 1)]
    obeyed = [[], []]
    for step in range(12 + 2 * lead):
        for at, name in commands:
            if at == step:
                ranks[0]._new.append({"command": name})
        obeyed[0] += obey(ranks[0], step)
        if (late := step - lead + 1) >= 0:
            obeyed[1] += obey(ranks[1], late)
    rest = range(12 + lead + 1, 12 + 2 * lead)
    obeyed[1] += [pair for step in rest for pair in obey(ranks[1], step)]
    assert obeyed[0] == obeyed[1]
    assert sorted(name for _, name in obeyed[0]) == sorted(name for _, name in commands)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["set", "pause", "resume"])), max_size=8),
    st.lists(st.integers(0, 2), min_size=200, max_size=200),
    st.sampled_from([1, 2, 5, 8]),
)
def test_ranks_that_meet_every_few_steps_obey_at_the_same_step(tmp_path_factory, commands, turns, every):
    """Three ranks advance in any order, held only by the meeting at the end of every `every`-th step, and by pauses."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "control").mkdir()
    ranks = [Unwatched(folder, rank, 3, every) for rank in range(3)]
    steps, entered, paused, obeyed = [0] * 3, [-1] * 3, [False] * 3, [[], [], []]
    turns += [0, 1, 2] * 200
    for turn, i in enumerate(turns):
        for name in [name for at, name in commands if at == turn] + ["resume"] * (turn >= 200 and turn % 30 == 0):
            ranks[0]._new.append({"command": name})
        if entered[i] < steps[i] and (command := ranks[i].next(steps[i], waiting=paused[i])):
            obeyed[i].append((steps[i], command["command"]))
            paused[i] = command["command"] == "pause" or (paused[i] and command["command"] != "resume")
            continue  # others take their turns, and commands come, before it looks for the next
        if paused[i]:
            continue
        entered[i] = steps[i]  # and obeys no more in this step, however long it waits for the others
        met = (steps[i] + 1) % every or min(entered) >= steps[i]
        if met and steps[i] < 60:
            steps[i] += 1
    assert steps == [60] * 3
    least = min(map(len, obeyed))
    assert [o[:least] for o in obeyed] == [obeyed[0][:least]] * 3
    assert least >= len(commands)


def test_a_resume_that_was_announced_before_the_pause_was_obeyed_is_not_lost(tmp_path):
    (tmp_path / "control").mkdir()
    ranks = [Unwatched(tmp_path, rank, 2) for rank in (0, 1)]
    ranks[0]._new.append({"command": "pause"})
    assert ranks[0].next(3) is None
    ranks[0]._new.append({"command": "resume"})
    for rank in ranks:
        assert rank.next(4)["command"] == "pause"
        assert rank.next(4) is None
        assert rank.next(4, waiting=True)["command"] == "resume"


def test_what_is_asked_while_rank_0_is_about_to_leave_a_pause_waits_for_those_who_have_left_it(tmp_path):
    (tmp_path / "control").mkdir()
    ranks = [Unwatched(tmp_path, rank, 2, 8) for rank in (0, 1)]
    ranks[0]._new.append({"command": "pause"})
    assert [rank.next(step) for rank in ranks for step in range(8)] == [None] * 16
    assert [rank.next(8)["command"] for rank in ranks] == ["pause"] * 2
    ranks[0]._new.extend([{"command": "set"}, {"command": "resume"}])
    assert ranks[0].next(8, waiting=True)["command"] == "set"
    assert [ranks[1].next(8, waiting=True)["command"] for _ in range(2)] == ["set", "resume"]
    assert ranks[1].next(12) is None  # gone on, while rank 0 is where it was
    ranks[0]._new.append({"command": "stop"})
    assert ranks[0].next(8, waiting=True)["command"] == "resume"
    assert [rank.next(step) for rank in ranks for step in (13, 15)] == [None] * 4
    assert [rank.next(16)["command"] for rank in ranks] == ["stop"] * 2


@pytest.fixture
def watched():
    """Makes a rank 0 that looks for commands by itself."""
    made = []

    def make(folder):
        made.append(Control(folder, 0, 1))
        return made[-1]

    yield make
    for rank in made:
        rank.close()


def test_commands_are_obeyed_in_order_once_and_leave_the_folder_but_for_a_stop(tmp_path, watched):
    (tmp_path / "control").mkdir()
    rank = watched(tmp_path)
    for lr in (1, 2, 3):
        control.send(tmp_path, "set", lr=lr)
    control.send(tmp_path, "stop")
    assert control.stopping(tmp_path)
    found = [until(lambda: rank.next(0)) for _ in range(4)]
    assert [command.get("lr") for command in found] == [1, 2, 3, None]
    until(lambda: len(os.listdir(tmp_path / "control")) == 1)  # a command is taken before its file goes
    assert control.stopping(tmp_path)
    assert rank.next(0) is None
    control.clear(tmp_path)
    assert not control.stopping(tmp_path)


def test_a_command_whose_clock_was_behind_is_not_lost(tmp_path, monkeypatch, watched):
    (tmp_path / "control").mkdir()
    rank = watched(tmp_path)
    control.send(tmp_path, "set", lr=1)
    until(lambda: rank.next(0))
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    control.send(tmp_path, "set", lr=2)
    assert until(lambda: rank.next(0))["lr"] == 2


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_keeps_every_step_and_its_order(tmp_path):
    log = Log(tmp_path / "rank0.jsonl", 0)
    log.know(dict, threads=1, device="cpu")
    log.start()
    read = []
    log.read = lambda *figures: read.append(figures)
    for step in range(1, 501):
        log.train(step, 0, torch.tensor(1 / step), torch.tensor(step % 5), 5, 0.1)
    log.evaluation("val", 500, 0, loss=0.5, accuracy=0.75)
    log.close()
    train = [row for row in rows(tmp_path / "rank0.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(1, 501))
    assert train[1] | {"t": 0} == {
        "kind": "train",
        "t": 0,
        "rank": 0,
        "step": 2,
        "epoch": 0,
        "loss": 0.5,
        "accuracy": 0.4,
        "samples": 5,
        "lr": 0.1,
    }
    assert read[1] == (2, 0.5, [2], 5) and sum(samples for *_, samples in read) == 2500
    last = rows(tmp_path / "rank0.jsonl")[-1]
    assert last["kind"] == "system" and last["memory"] > 1e6 and last["val_accuracy"] == 0.75 and last["step"] == 500


def test_a_loss_that_is_not_finite_is_seen_and_written_as_null(tmp_path):
    log = Log(tmp_path / "rank0.jsonl", 0)
    log.train(1, 0, torch.tensor(0.5), None, 4, 0.1)
    log.train(2, 0, torch.tensor(float("nan")), None, 4, 0.1)
    log.train(3, 0, torch.tensor(float("inf")), None, 4, 0.1)
    read = []
    log.read = lambda step, loss, counts, samples: read.append((step, math.isfinite(loss)))
    log.flush()
    log.close()
    assert read == [(1, True), (2, False), (3, False)]
    assert [row["loss"] for row in rows(tmp_path / "rank0.jsonl")] == [0.5, None, None]


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "rank0.jsonl"
    path.write_bytes(b'{"kind": "train", "st')
    log = Log(path, 0)
    log.write("note", rewind=3)
    log.close()
    assert [row["rewind"] for row in parse(path.read_bytes())] == [3]


HOLD = """
import sys, time
from lepton_lab.launchers.local.leases import Queue
queue = Queue("cpu")
print("queued", flush=True)
while not queue.acquire(["cpu0", "cpu1"], int(sys.argv[1])):
    time.sleep(0.005)
print("holds", time.monotonic(), flush=True)
sys.stdin.readline()
queue.release()
print("released", time.monotonic(), flush=True)
"""


@pytest.fixture
def holder():
    started = []

    def start(count):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "queued\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told(process):
    return process.stdout.readline().split()


def test_slots_are_given_first_come_first_served_and_never_twice(holder):
    first = holder(2)
    assert told(first)[0] == "holds"
    second, third = holder(1), holder(1)
    time.sleep(0.1)
    first.stdin.write("\n")
    first.stdin.flush()
    released = float(told(first)[1])
    a, b = float(told(second)[1]), float(told(third)[1])
    assert released < a < b


def test_a_dead_holder_and_a_dead_waiter_leave_nothing_behind(holder):
    first = holder(2)
    told(first)
    second, third = holder(1), holder(2)
    second.kill()
    second.wait()
    first.kill()
    first.wait()
    assert told(third)[0] == "holds"
    assert not list((root() / "cpu").glob("0*"))


def test_who_asked_first_is_served_first_though_it_came_late_and_two_never_wait_for_each_other():
    late = Queue("cpu", since=2)
    assert late.acquire(["cpu0"], 2) is None  # holds one of two
    first = Queue("cpu", since=1)
    assert first.acquire(["cpu0", "cpu1"], 2) is None  # the other still holds it
    assert late.acquire(["cpu0", "cpu1"], 2) is None and late.ahead == 1
    assert first.acquire(["cpu0", "cpu1"], 2) == ["cpu0", "cpu1"]
    assert late.acquire(["cpu0", "cpu1"], 2) is None and late.ahead == 0
    first.release()
    assert late.acquire(["cpu0", "cpu1"], 2) == ["cpu0", "cpu1"]
    late.release()


def test_a_slot_tells_who_holds_it_and_never_who_held_it():
    queue = Queue("cpu", label={"run": "a"})
    assert queue.acquire(["cpu0", "cpu1"], 2) and holders(queue.folder) == [{"pid": os.getpid(), "run": "a"}]
    pid = os.fork()
    if pid == 0:  # holds what we release, as ranks do that outlive their supervisor
        time.sleep(60)
        os._exit(0)
    queue.release()
    assert holders(queue.folder) == [{"pid": os.getpid(), "run": "a"}]
    slot = queue.folder / "cpu0"
    slot.write_text(slot.read_text().replace(str(os.getpid()), str(2**22 + 1)))  # one that is dead
    (queue.folder / "cpu1").write_text("{")
    assert holders(queue.folder) == []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (queue.folder / "cpu0").write_text(json.dumps({"pid": os.getpid(), "run": "a"}))
    assert holders(queue.folder) == [] == holders(queue.folder / "nowhere")


def test_a_forked_child_keeps_the_lease_of_a_dead_parent():
    queue = Queue("cpu")
    assert queue.acquire(["cpu0"], 1) == ["cpu0"]
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:  # stands for a rank
        os.close(into)
        os.read(out, 1)
        os._exit(0)
    os.close(out)
    queue.release()
    other = Queue("cpu")
    assert other.acquire(["cpu0"], 1) is None
    os.close(into)
    os.waitpid(pid, 0)
    assert until(lambda: other.acquire(["cpu0"], 1)) == ["cpu0"]
    other.release()


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (None, ["GPU-aa1", "GPU-ab2", "GPU-b3"]),
        ("", []),
        ("1", ["GPU-ab2"]),
        ("2, 0", ["GPU-b3", "GPU-aa1"]),
        ("GPU-b", ["GPU-b3"]),
        ("GPU-ab2,0", ["GPU-ab2", "GPU-aa1"]),
        ("MIG-c4", ["MIG-c4"]),
        ("0,-1,1", ["GPU-aa1"]),
        ("7", []),
    ],
)
def test_a_gpu_has_one_name_however_it_is_asked_for(asked, left):
    assert visible(["GPU-aa1", "GPU-ab2", "GPU-b3"], asked) == left
