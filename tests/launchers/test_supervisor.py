"""The supervisor and its ranks under real faults: deaths, hangs, races."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from helpers import gone, numbered, started, until
from torch import nn

import lepton_lab as lab
from lepton_lab import cli
from lepton_lab.errors import SpecError
from lepton_lab.files import write_json
from lepton_lab.launchers import devices, failures
from lepton_lab.launchers.failures import VICTIM
from lepton_lab.launchers.local import client, warm
from lepton_lab.launchers.local.zygote import Inbox
from lepton_lab.store import control
from lepton_lab.store.folder import RunFolder


def kernel(code, **env):
    """A Python process that stands for a kernel; it prints a line when it has done `code`, then sleeps."""
    script = f"import lepton_lab as lab, time\n{code}\nprint('ready', flush=True)\ntime.sleep(600)"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    return child


ENDLESS = "lab.launch(lab.Spec(model='mlp', epochs=100000, batch_size=32, world=2, eval_every=0, checkpoint_every=0))"
SHORT = "run = lab.launch(lab.Spec(model='mlp', epochs=3, batch_size=128, world=2))"
ONE = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # thread, as in the warm process
WARMED = """
import os, signal, tempfile, threading
from lepton_lab.host import fork_alone, threads
from lepton_lab.launchers.local import supervisor
from lepton_lab.store.folder import RunFolder

states, write = [], RunFolder.set_state
RunFolder.set_state = lambda folder, *state, **facts: states.append((*state, facts)) or write(folder, *state, **facts)
before = len(os.listdir("/proc/self/fd"))
supervisor.rehearse()
assert states == [("stopped", {"reason": "stopped before it began"})], states
left = len(os.listdir("/proc/self/fd")) - before, threads() - 1, os.listdir(tempfile.gettempdir())
assert left == (0, 0, []), left
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
tempfile.tempdir = "/nowhere"
supervisor.rehearse()  # no place for it

if (pid := fork_alone()) == 0:
    thread = threading.Thread(target=os.sched_yield)
    thread.start()
    thread.join()
    if (rank := os.fork()) == 0:
        os._exit(7)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


@pytest.mark.slow
def test_a_rehearsal_leaves_nothing_and_a_process_forked_alone_has_threads_and_children(tmp_path):
    (tmp_path / "own").mkdir()
    places = {"TMPDIR": str(tmp_path / "own"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}  # torch's own
    done = subprocess.run([sys.executable, "-c", WARMED], env={**ONE, **places}, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_run_outlives_its_kernel_and_is_attached_to_again():
    child = kernel(ENDLESS)
    child.stdout.readline()
    run = lab.attach()
    started(run)
    child.kill()
    child.communicate()
    seen = len(run.rows("train"))
    until(lambda: len(run.rows("train")) > seen + 50)
    run.set(lr=0.125)
    until(lambda: run.rows("train")[-1]["lr"] == 0.125)
    run.stop()
    assert run.wait(30) == "stopped"
    assert run.rows("train")[0]["step"] == 1


@pytest.mark.parametrize("delay", [0.0, pytest.param(1.5, marks=pytest.mark.slow)])
def test_a_kernel_that_dies_right_after_launch_loses_no_run(delay):
    child = kernel(f"{SHORT}; time.sleep({delay}); import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    child.communicate()
    run = lab.attach()
    assert run.wait(60) == "done"
    until(lambda: not run.store.alive)


@pytest.mark.parametrize(
    ("idle", "reaped"), [(True, True), pytest.param(True, False, marks=pytest.mark.slow), (False, True)]
)
def test_a_warm_process_ends_with_its_kernel_even_if_a_child_holds_its_socket(idle, reaped):
    child = kernel(
        "from lepton_lab.launchers.local import client, warm; warm(); import os, subprocess\n"
        "os.set_inheritable(client._warm.channel.fileno(), True)\n"
        "sleeper = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "print(sleeper.pid, client._warm.process.pid, flush=True)"
    )
    sleeper, warm_one = map(int, child.stdout.readline().split())
    process = psutil.Process(warm_one)
    try:
        if idle:  # it has imported all: under load that may take a minute
            until(lambda: process.name() == "lepton-warm", 120)
        child.kill()
        if reaped:
            child.wait()
        until(lambda: gone([process]), 120)
    finally:
        os.kill(sleeper, signal.SIGKILL)
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_run_that_a_dying_warm_process_did_not_take_is_queued_and_not_interrupted(tiny):
    warm()
    process = client._warm.process
    os.kill(process.pid, signal.SIGSTOP)  # as a busy one, it does not come to take it
    run = lab.launch(tiny)
    with client._lock:  # until here nobody knows of its death, by which the lock on the folder is gone
        process.kill()
        until(lambda: process.poll() is not None and not run.store.alive)
        assert run.state == "queued"
    assert run.wait(60) == "done"


def test_one_warm_process_serves_all_runs_and_its_death_harms_none(tiny, endless):
    """Nor does a supervisor's that of another; and what comes after has a warm process again."""
    warm()
    pid = client._warm.process.pid
    runs = [lab.launch(endless.replace(world=1)) for _ in range(2)]
    ranks = [started(run)[0] for run in runs]
    supervisors = [rank.parent() for rank in ranks]
    assert [supervisor.ppid() for supervisor in supervisors] == [pid, pid] == [client._warm.process.pid] * 2
    assert len({os.getsid(p) for p in (os.getpid(), pid, *(s.pid for s in supervisors))}) == 4
    os.kill(supervisors[0].pid, signal.SIGKILL)
    assert runs[0].wait(20) == "interrupted" and gone(ranks[:1])
    until(lambda: not psutil.pid_exists(supervisors[0].pid))  # no zombie stays
    os.kill(pid, signal.SIGKILL)
    seen = len(runs[1].rows("train"))
    until(lambda: len(runs[1].rows("train")) > seen + 20)
    last = lab.launch(tiny)
    assert last.wait(60) == "done" and client._warm.process.pid != pid and not psutil.pid_exists(pid)
    runs[1].stop()
    assert runs[1].wait(30) == "stopped"


def starts(run):
    return [row for row in run.rows("state") if row["state"] == "starting"]


def test_what_a_warm_process_took_to_its_death_is_done_by_another_once(tiny):
    warm()
    first = client._warm.process
    os.kill(first.pid, signal.SIGSTOP)  # before it can take anything
    runs = [lab.launch(tiny) for _ in range(2)]
    race = lab.race(tiny, ["single", "ddp"]).runs
    assert [run.state for run in (*runs, *race)] == ["queued"] * 4
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: all(starts(run) for run in runs))
    for run in (*runs, *race):
        assert run.wait(60) == "done"
        assert len(starts(run)) == 1 and run.facts["attempt"] == 1
    assert starts(race[0])[0]["t"] < starts(race[1])[0]["t"]


@pytest.mark.slow  # many processes
def test_more_launches_than_a_socket_holds_wait_for_nobody(tiny):
    client.close()
    warm()
    first = client._warm
    os.kill(first.process.pid, signal.SIGSTOP)
    first.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # Linux takes its least: a few messages
    runs = []
    while client._warm is first:  # the launch that finds no room starts another
        runs.append(lab.launch(tiny))
        runs[-1].stop()  # cheap ones
    assert 1 < len(runs) < 50
    os.kill(first.process.pid, signal.SIGCONT)
    assert {run.wait(60) for run in runs} <= {"stopped", "done"}
    assert all(len(starts(run)) <= 1 for run in runs)
    until(lambda: first.process.poll() is not None)  # it is needed no more


@pytest.mark.slow
def test_a_child_that_the_kernel_forked_launches_by_itself():
    child = kernel(
        f"{SHORT}; import os\nfrom lepton_lab.launchers.local import client\npid = client._warm.process.pid\n"
        f"if not os.fork():\n    {SHORT}\n"
        "    print(run.wait(60), pid == client._warm.process.pid, flush=True); os._exit(0)\n"
        "os.wait(); print(run.wait(60), pid == client._warm.process.pid, flush=True)"
    )
    assert child.stdout.readline() == "done False\n"
    assert child.stdout.readline() == "done True\n"
    child.kill()
    child.communicate()


def test_a_dead_warm_process_is_replaced(tiny, monkeypatch):
    """Also one whose death falls between look and send; that of one which was seen to be dead is told of above."""
    warm()
    process = client._warm.process
    process.kill()
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    monkeypatch.setattr(process, "poll", lambda: None)  # what a death between look and send is like
    run = lab.launch(tiny)
    assert run.wait(60) == "done"
    monkeypatch.undo()


def test_killing_the_supervisor_ends_the_ranks_and_the_run_reads_as_interrupted(endless):
    run = lab.launch(endless)
    ranks = started(run)
    run.checkpoint()
    saved = until(lambda: run.facts.get("checkpoint"))
    os.kill(ranks[0].ppid(), signal.SIGKILL)
    until(lambda: gone(ranks))
    assert run.wait(5) == "interrupted"
    assert run.remark.startswith("its processes are gone") and run.remark.endswith(f"goes on from step {saved}")
    run.resume()
    until(lambda: run.state == "running")
    until(lambda: run.rows("train")[-1]["step"] > saved + 20)
    run.stop()
    assert run.wait(30) == "stopped"
    for rank in (0, 1):
        steps = [row["step"] for row in run.rows("train") if row["rank"] == rank]
        assert steps == list(range(1, len(steps) + 1))  # what was done twice counts once


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named_and_takes_the_others_along(endless, victim):
    run = lab.launch(endless)
    ranks = started(run)
    by_rank = numbered(ranks)
    by_rank[victim].kill()
    assert run.wait(20) == "failed"
    assert (run.failure.rank, run.failure.type) == (victim, "SIGKILL")
    assert set(run.failure.others) == {str(1 - victim)}
    assert run.failure.waits[str(1 - victim)].startswith("all_reduce of ")
    assert f"rank {1 - victim} at step" in str(run.failure) and "in all_reduce of" in str(run.failure)
    assert gone(ranks)


class Explodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.seen = 0

    def forward(self, x):
        import torch.distributed as dist

        self.seen += 1
        if self.seen == 5 and dist.get_rank() == 1:
            self.explode()
        return self.layer(x.flatten(1))

    def explode(self):
        raise ValueError("a wheel came off")


class Leaves(nn.Module):
    """Each rank exits by itself in its first batch."""

    def __init__(self, code):
        super().__init__()
        self.layer, self.code = nn.Linear(64, 10), code

    def forward(self, x):
        os._exit(self.code)


class Hangs(Explodes):
    def explode(self):
        time.sleep(600)


def test_an_exception_names_rank_type_message_place_and_the_others_step(endless):
    run = lab.launch(endless, model=Explodes)
    assert run.wait(60) == "failed"
    failure = run.failure
    assert (failure.rank, failure.type, failure.message) == (1, "ValueError", "a wheel came off")
    assert "test_supervisor.py, line" in failure.where
    assert failure.step == 4 and list(failure.others) == ["0"]
    assert "in explode" in failure.traceback
    assert "rank 1: ValueError: a wheel came off" in str(failure)


@pytest.mark.parametrize("code", [0, 20, 21])
def test_ranks_that_exit_by_themselves_are_not_taken_for_done(endless, code):
    run = lab.launch(endless, model=Leaves(code))
    assert run.wait(60) == "failed"
    assert f"the process ended by itself with exit code {code}" in run.failure.message


def test_a_resumed_run_does_not_stand_still_since_its_life_before():
    folder = RunFolder.create(lab.Spec())
    (folder.path / "events" / "rank0.jsonl").write_text('{"kind": "system", "t": 1.0, "rank": 0, "step": 7}\n')
    folder.set_state("starting")
    assert failures.stall(folder) == ""
    write_json(folder.path / "state.json", {"state": "starting", "t": folder.facts["t"] - 60})
    assert "(60 s): rank 0 in an unknown place, saying nothing" in failures.stall(folder)


def test_a_rank_that_stands_still_is_named_and_not_the_one_that_waited(endless):
    run = lab.launch(endless.replace(timeout=2))
    ranks = started(run)
    by_rank = numbered(ranks)
    by_rank[1].suspend()
    assert run.wait(30) == "failed"
    assert (run.failure.rank, run.failure.type) == (1, "Stuck")
    # It may have been on its way through the operation itself.
    message = r"did not answer for 2 s( and was in all_reduce of [\d,]+ numbers)?; rank 0 waited for it in all_reduce"
    assert re.search(message, run.failure.message)
    assert any(row.get("waits", "").startswith("all_reduce of ") for row in run.rows("system"))
    assert gone(ranks)


def test_a_run_whose_folder_is_deleted_ends(endless):
    run = lab.launch(endless)
    ranks = started(run)
    # Ranks write meanwhile, so that a folder may get a file between a look into it and its removal.
    until(lambda: shutil.rmtree(run.folder, ignore_errors=True) or not run.folder.exists())
    until(lambda: gone(ranks))


def test_sigterm_to_the_supervisor_is_a_stop(endless):
    run = lab.launch(endless)
    ranks = started(run)
    os.kill(ranks[0].ppid(), signal.SIGTERM)
    assert run.wait(30) == "stopped"
    assert run.facts["checkpoint"] > 0


def test_a_run_that_ends_never_hangs_in_teardown(tiny):
    """Destroying the process group under a live DDP model hung 6 of 40 times in a prototype."""
    for _ in range(6):
        run = lab.launch(tiny.replace(world=2, epochs=1, batch_size=512))
        assert run.wait(30) == "done"
        until(lambda run=run: not run.store.alive)


def test_ranks_start_by_spawn_where_a_fork_is_unsafe(tiny, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_START_METHOD", "spawn")
    run = lab.launch(tiny)
    assert run.wait(90) == "done"
    assert any(row.get("method") == "spawn" for row in run.rows("note"))


def test_the_warm_process_forks_with_one_thread(tiny):
    """Also with what a chain needs: that its ranks are forked is in test_compressing."""
    run = lab.launch(tiny)
    run.wait(60)
    assert any(row.get("method") == "fork" for row in run.rows("note"))
    assert psutil.Process(client._warm.process.pid).num_threads() == 1


def test_a_part_of_an_order_is_waited_for(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel = os.pidfd_open(os.getpid())
    inbox = Inbox(theirs, kernel)
    with ours, theirs, (tmp_path / "order").open("w+b") as order:
        assert inbox.wait(seconds=0) == set() and inbox.empty
        for more in (True, False):
            order.truncate(0)
            order.seek(0)
            order.write(json.dumps({"runs": [], "more": more}).encode())
            order.flush()
            socket.send_fds(ours, [b"run"], [order.fileno()])
            inbox.wait(seconds=0)
            assert not inbox.empty
            assert len(inbox.orders) == (not more)
    os.close(kernel)


def test_what_a_kernel_sent_before_its_death_is_still_taken(tiny):
    """A chain that it had sent a part of is not begun: it was handed to nobody whole."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    pid = os.pidfd_open(gone.pid)
    gone.wait()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folders = [RunFolder.create(tiny) for _ in range(3)]
    for number, (folder, more) in enumerate(zip(folders, (False, True, True), strict=True)):
        lock = folder.lock()
        with (folder.path / "order").open("w+b") as order:
            order.write(json.dumps({"runs": [{"folder": folder.id}], "number": number, "more": more}).encode())
            order.flush()
            socket.send_fds(ours, [b"run"], [order.fileno(), lock])
        os.close(lock)
    with ours, theirs:
        inbox = Inbox(theirs, pid)
        assert inbox.wait() == set() and inbox.ended
        assert [order.runs for order in inbox.orders] == [[{"folder": folders[0].id}]]
        assert [folder.state for folder in folders] == ["queued"] * 3
        order = inbox.orders.popleft()
        inbox.leave(order)  # as a supervisor does; it keeps its own
        assert [folder.state for folder in folders] == ["queued", "interrupted", "interrupted"]
        assert ours.recv(16) == b"0"
        order.drop()


def test_output_of_ranks_lands_in_logs_and_the_environment_travels(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("LEPTON_LAB_TEST_WORD", "sesame")
    monkeypatch.chdir(tmp_path)

    class Speaks(nn.Linear):
        def forward(self, x):
            print(os.environ["LEPTON_LAB_TEST_WORD"], os.getcwd())
            return super().forward(x.flatten(1))

    run = lab.launch(tiny, model=Speaks(64, 10))
    assert run.wait(60) == "done"
    assert f"sesame {tmp_path}" in (run.folder / "logs" / "rank0.log").read_text()


def test_commands_of_an_earlier_life_are_forgotten(endless):
    run = lab.launch(endless)
    started(run)
    run.stop()
    run.wait(30)
    control.send(run.folder, "stop")  # one that came too late
    run.resume()
    until(lambda: run.state == "running")
    time.sleep(0.2)
    assert run.state == "running"
    run.stop()
    assert run.wait(30) == "stopped"


@pytest.mark.parametrize(
    "text",
    [
        "Connection reset by peer",
        "Timed out waiting 8000ms for recv operation",
        "Connection closed by peer",
        "Failed to recv, got 0 bytes. Connection was likely closed.",  # of the store by which ranks find each other
        "The client socket has timed out after 60000ms while trying to connect to",
    ],
)
def test_words_of_a_victim_are_known(text):
    assert VICTIM.search(f"[pair.cc:537] Read error [127.0.0.1]: {text}")


# What has a warm process of its own, or none: together, since what comes after each begins with another.


@pytest.mark.slow
@pytest.mark.parametrize("seconds", ["0", "0.5"])
def test_none_is_kept_where_none_is_wanted(tiny, seconds, monkeypatch):
    client.close()
    monkeypatch.setenv("LEPTON_LAB_STANDBY", seconds)
    warm()
    assert client._warm is None
    run, race = lab.launch(tiny), lab.race(tiny, ["single", "ddp"])
    process = client._warm.process
    assert [run.wait(60), *race.wait(60)] == ["done"] * 3
    until(lambda: process.poll() is not None)  # and is replaced as any that is dead, above


@pytest.mark.slow
def test_it_waits_for_more_runs_as_long_as_is_said(tiny, monkeypatch):
    client.close()
    monkeypatch.setenv("LEPTON_LAB_STANDBY", "30")
    warm()
    assert client._warm is None, "before the first"
    first = lab.launch(tiny)
    process = client._warm.process
    assert first.wait(60) == "done"
    until(lambda: not first.store.alive)
    time.sleep(1)
    assert lab.launch(tiny).wait(60) == "done"
    assert client._warm.process is process
    client.close()


@pytest.mark.parametrize(
    "value, seconds", [("", math.inf), ("0", 0), ("0.5", 0.5), ("1e300", math.inf), ("inf", math.inf)]
)
def test_how_long_it_waits_is_read_from_the_environment(value, seconds, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_STANDBY", value)
    assert devices.standby() == seconds


@pytest.mark.parametrize("value, on", [("soon", "local"), ("-1", "torchrun"), ("nan", "slurm:cluster=local")])
def test_what_is_no_time_to_wait_is_refused_before_anything_starts(tiny, value, on, monkeypatch):
    before = [run.id for run in lab.runs()]
    monkeypatch.setenv("LEPTON_LAB_STANDBY", value)
    with pytest.raises(SpecError, match=f"LEPTON_LAB_STANDBY='{value}': must be a number of seconds, 0 or more"):
        lab.launch(tiny, on=on)
    assert [run.id for run in lab.runs()] == before


def test_a_run_whose_ranks_stand_still_says_so_and_is_ended_by_stop(endless, monkeypatch):
    client.close()
    # The supervisor's patience, shortened in a process of its own.
    monkeypatch.setenv("LEPTON_LAB_STANDBY", "0")
    sooner = "import lepton_lab.launchers.supervision as p; p.STOP = 1.0; "
    monkeypatch.setattr(client, "CODE", sooner + client.CODE)
    monkeypatch.setattr(failures, "STILL", 3.0)
    run = lab.launch(endless, model=Hangs)
    ranks = started(run, 3)
    line = 1 + Path(__file__).read_text().splitlines().index("        time.sleep(600)")
    until(lambda: f"rank 1 in {__file__}, line {line}" in run.remark)
    assert re.match(r"no step since \d\d:\d\d:\d\d \(\d+ s\): rank 0 in all_reduce of ", run.remark), run.remark
    for command in ("list", "show"):
        assert "no step since" in CliRunner().invoke(cli.main, [command]).output
    run.stop()
    assert run.wait(30) == "stopped"
    assert "did not reach the end of a step" in run.facts["reason"]
    assert gone(ranks)


class Loops(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        self.seen = 0

    def forward(self, x):
        self.seen += 1
        while self.seen > 5:
            pass
        return super().forward(x.flatten(1))


def test_a_stop_saves_what_there_is_where_a_step_never_ends(endless, monkeypatch):
    client.close()
    monkeypatch.setenv("LEPTON_LAB_STANDBY", "0")
    sooner = "import lepton_lab.launchers.supervision as p; p.ASK = 0.5; "
    monkeypatch.setattr(client, "CODE", sooner + client.CODE)
    run = lab.launch(endless.replace(world=1, strategy="single"), model=Loops)
    until(lambda: len(run.rows("train")) == 5)
    run.stop()
    assert run.wait(30) == "stopped"
    assert run.facts["checkpoint"] == 5 and run.model().weight.isfinite().all()
    assert "was broken off in" in run.remark and "test_supervisor.py, line" in run.remark


def test_a_run_that_no_process_takes_fails_with_a_sentence(tiny, monkeypatch):
    client.close()
    monkeypatch.setattr(client, "CODE", "raise SystemExit('torch is broken')")
    run = lab.launch(tiny)
    until(lambda: run.state == "failed")
    assert "does not take it: torch is broken" in run.failure.message
    until(lambda: not run.store.alive)
