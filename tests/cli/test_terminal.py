"""What a terminal shows: progress of scripts and of runs, what ranks printed, failures, widths and colours."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import click
import pytest
from helpers import ENDLESS, call, start, until
from torch import nn

import lepton_lab as lab
from lepton_lab.cli.showing import show_figures
from lepton_lab.launchers.local import client
from lepton_lab.spec import Spec
from lepton_lab.store.folder import RunFolder

SCRIPT = """
import os, sys, torch, lepton_lab as lab
def work():
    x = torch.randn(400, 6)
    model = torch.nn.Linear(6, 2)
    trainer = lab.Trainer(lr=0.01, name="two [/lines] :x:")
    print(trainer)
    print(trainer.fit(model, (x, (x[:, 0] > 0).long()), batch_size=50, epochs=3))
    run = lab.launch(lab.Spec(model="mlp", epochs=2, batch_size=256))
    print(run.wait(100), run.wait(), lab.launch(run.spec).wait(progress=False))
if __name__ == "__main__":
    work()  # where stderr is a pipe
    sys.stderr.flush()
    os.dup2(int(sys.argv[1]), 2)
    work()  # and where it is a terminal
"""


def opened(columns=80):
    """Both ends of a terminal: ours and that of a process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


def written(ours, theirs):
    """What a process writes on its terminal, once it has ended."""
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:  # so a terminal ends on Linux
        pass
    os.close(ours)
    return text.decode()


def room(**environment):
    """The environment of a process on a terminal."""
    return {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")} | {"TERM": "xterm", **environment}


def terminal(*words, columns=80, **environment):
    """What a command writes on a terminal."""
    ours, theirs = opened(columns)
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs, env=room(**environment), start_new_session=True)
    text = written(ours, theirs)
    process.wait(60)
    return text


def cli(*words):
    return sys.executable, "-m", "lepton_lab", *words


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """What the script wrote: on stdout, and of its two halves on stderr, the pipe and then the terminal."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "script.py").write_text(SCRIPT)
    ours, theirs = opened()
    words = [sys.executable, str(folder / "script.py"), str(theirs)]
    own = room(LEPTON_LAB_HOME=str(folder), XDG_RUNTIME_DIR=str(folder))
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own, pass_fds=[theirs]
    )
    shown = written(ours, theirs)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines(), err.splitlines(), shown


def test_a_script_shows_progress_on_stderr_and_nothing_on_stdout(script):
    out, (heads, *lines), _ = script
    first, second, third = out[:3]
    assert first == "<Trainer(num_nodes=1, lr=0.01, name='two [/lines] :x:'): not fitted yet>"
    assert (
        second.startswith("<Trainer(num_nodes=1, lr=0.01, name='two [/lines] :x:'): run 2")
        and ", done, train_loss" in second
    )
    assert third == "done done done"
    assert heads.split()[:3] == ["epoch", "step", "train"]
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]  # those who wait with a timeout poll: not told


def test_a_script_on_a_terminal_has_one_line_that_is_drawn_again(script):
    out, _, text = script
    assert len(out) == 6
    shown = click.unstyle(text)
    assert "two [/lines] :x: done" in shown and "1/3" not in shown
    assert shown.count("\n") == 1  # one line, that stays
    assert all(len(line) <= 80 for part in shown.splitlines() for line in part.split("\r"))


class Talks(nn.Module):
    """Says something on each rank, once a step."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        print("a step")
        return self.layer(x.flatten(1))


class Says(Talks):
    """Says one thing, and then trains for long."""

    def __init__(self):
        super().__init__()
        print("a word")

    def forward(self, x):
        return self.layer(x.flatten(1))


class Fails(Talks):
    def forward(self, x):
        raise ValueError("a wheel came off")


@pytest.fixture(scope="module")
def failed(standby):
    """A run of a user's own model that fails, in a home of its own."""
    with pytest.MonkeyPatch.context() as own:
        import tempfile

        with tempfile.TemporaryDirectory() as root:
            own.setenv("LEPTON_LAB_HOME", root)
            own.setenv("XDG_RUNTIME_DIR", root)
            run = lab.launch(Spec(world=2, epochs=1), model=Fails)
            run.wait(60)
            yield run, root


def test_a_failure_begins_with_the_user_s_own_line(failed, monkeypatch):
    run, root = failed
    monkeypatch.setenv("LEPTON_LAB_HOME", root)
    text = call("show", run.id)[0]
    told = text.split("Failed: ")[1].split("\n\n")[0].splitlines()
    assert "ValueError: a wheel came off" in told[0]
    assert (
        told[1].strip() == f"{run.failure.where}, in forward"
        and told[2].strip() == 'raise ValueError("a wheel came off")'
    )
    assert told[3] == "  Last calls, the innermost at the end:" and "module.py, line" in told[-3]
    assert told[-1] == f"  The whole traceback: lepton-lab logs {run.id}"
    assert "Traceback (most recent call last)" in call("logs", run.id)[0]


def test_no_color_is_obeyed_and_lines_fit_sixty_columns(failed):
    run, root = failed
    room = {"LEPTON_LAB_HOME": root, "columns": 60}
    coloured = terminal(*cli("show", run.id), **room)
    plain = terminal(*cli("show", run.id), **room, NO_COLOR="1")
    assert "\x1b[31m" in coloured and "\x1b[" not in plain
    refused = terminal(*cli("watch", run.id), **room, NO_COLOR="1")
    assert "\x1b[3" not in refused and "Error: rank" in refused


def test_what_ranks_printed_is_told_by_rank():
    run = lab.launch(Spec(world=2, epochs=1, batch_size=720, name="talks"), model=Talks)
    process = start("logs", "talks", "--follow")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "") and run.state == "done"
    assert {line for line in out.splitlines() if "step" in line} == {"rank 0 | a step", "rank 1 | a step"}
    assert set(call("logs", run.id, "--rank", 1)[0].splitlines()) == {"a step"}
    assert f"rank=2: run {run.id!r} has ranks 0 to 1" in call("logs", "--rank", 2, code=2)[1]
    silent = RunFolder.create(Spec()).id
    assert call("logs", silent)[1] == f"Run {silent} (interrupted) has printed nothing.\n"
    text = terminal(*cli("watch", "talks"), columns=60)
    assert "done" in text and "1/1" in text


def test_what_a_rank_prints_can_be_read_at_once(endless, monkeypatch):
    client.close()
    monkeypatch.setenv("LEPTON_LAB_STANDBY", "0")  # a process that takes the environment as it is now
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    run = lab.launch(endless.replace(world=1), model=Says)
    until(lambda: "a word" in call("logs")[0])
    assert run.state in ("starting", "running")
    run.stop()
    assert run.wait(60) == "stopped"


def test_who_watches_can_go_without_ending_the_run():
    call(*ENDLESS, "--name", "long", "--detach")
    run = lab.attach("long")
    process = start("watch", "long")
    assert process.stdout.readline().split()[0] == "epoch"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and f"Run {run.id} goes on." in err and f"lepton-lab watch {run.id}" in err
    assert until(lambda: run.state == "running")
    run.stop()
    assert run.wait(60) == "stopped"
    assert "stopped" in call("watch", "lon", code=130)[0]


FIGURES = (["", "bytes", "time"], [["dense", "490,152", "2.5 ms"], ["pruned", "125,600", "0.9 ms"]])


@pytest.mark.parametrize("columns", [20, 80])
def test_figures_wider_than_the_terminal_stand_one_below_the_other(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    show_figures(*FIGURES, note="A note that is longer than twenty columns.")
    lines = [line.rstrip() for line in click.unstyle(capsys.readouterr().out).splitlines()]
    assert max(map(len, lines)) <= columns
    below = ["dense", "  bytes  490,152", "  time   2.5 ms", "pruned", "  bytes  125,600", "  time   0.9 ms"]
    beside = ["        bytes    time", "dense   490,152  2.5 ms", "pruned  125,600  0.9 ms"]
    assert lines[: -(3 if columns == 20 else 1)] == (below if columns == 20 else beside)
