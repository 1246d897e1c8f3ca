"""The command line: what a stranger reads, what a program reads, exit codes, and no torch where none is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest
import yaml
from helpers import ENDLESS, call, start, until

import lepton_lab as lab
from lepton_lab.cli.options import FIELDS
from lepton_lab.metrics import known
from lepton_lab.run.progress import Epochs
from lepton_lab.spec import Spec
from lepton_lab.tables import TABLES, table

TINY = ["run", "--model", "mlp", "--epochs", "1"]
FILES = ["compress", "measure", "export", "load-test", "predict", "generate", "find-lr", "estimate", "search"]


@pytest.fixture
def live():
    """A run that goes on for hours, under way."""
    out, _ = call(*ENDLESS, "--detach")
    run = lab.attach(out.strip())
    until(lambda: run.summary()["step"] > 0)
    yield run
    run.stop()
    run.wait(60)


def test_help_names_every_command_and_every_field():
    text, _ = call("--help")
    for name in (
        "run",
        "race",
        "list",
        "show",
        "watch",
        "logs",
        "stop",
        "pause",
        "resume",
        "set",
        "rename",
        "tag",
        "note",
        "archive",
        "delete",
        "report",
        "demo",
        *FILES,
        "Examples:",
        "Exit status",
    ):
        assert name in text
    assert "..." not in text.split("Commands:")[1].split("Examples")[0]  # no line was cut
    text, _ = call("run", "--help")
    flat = " ".join(text.split())
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in flat
    for family in TABLES:
        assert ", ".join(table(family)) in flat
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "command", ["race", "list", "show", "watch", "logs", "stop", "pause", "resume", "set", "report", *FILES]
)
def test_each_command_has_help(command):
    text, _ = call(command, "--help")
    assert text.startswith(f"Usage: lepton-lab {command}")


def test_the_version():
    assert call("--version")[0].startswith("lepton-lab 0.")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["list"], ["show"]])
def test_looking_needs_no_torch(words):
    if words == ["show"]:
        call(*TINY)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lepton_lab", *words], capture_output=True, text=True
    )
    assert done.returncode == 0
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "lepton_lab.cli" in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "plotly", "IPython", "papermill"}


def test_a_run_in_the_foreground_is_a_line_an_epoch():
    out, err = call("run", "--model", "mlp", "--epochs", "3", "--eval-every", "2")
    head, first, second, third, last = out.splitlines()
    assert head.split() == ["epoch", "step", "train", "loss", "accuracy", "val", "loss", "accuracy", "samples/s"]
    assert first.split()[:2] == ["1/3", "23"] and first.split()[4:6] == ["-", "-"]
    assert "-" not in second.split() and third.split()[0] == "3/3"
    run = lab.attach()
    assert last.startswith("done  test accuracy 0.") and last.endswith(str(run.folder))
    assert err == "" and max(map(len, (head, first, second, third))) <= 80
    assert call("show")[0].splitlines()[0] == f"{run.id}  done"


def test_every_field_reaches_the_spec():
    call(
        *TINY,
        "--lr",
        "1e-2",
        "--batch-size",
        128,
        "--optimizer",
        "momentum",
        "--clip",
        1,
        "--seed",
        3,
        "--name",
        "a b",
        "--option",
        "hidden=32",
        "--option",
        "dropout=0.1",
        "--compile",
        "false",
        "--schedule",
        "cosine",
        "--strategy",
        "single",
    )
    assert lab.attach().spec == Spec(
        model="mlp",
        epochs=1,
        lr=0.01,
        batch_size=128,
        optimizer="momentum",
        clip=1,
        seed=3,
        name="a b",
        schedule="cosine",
        strategy="single",
        options={"hidden": 32, "dropout": 0.1},
    )


def test_the_command_of_a_run_repeats_it():
    import shlex

    call(*TINY, "--lr", "0.01", "--option", "hidden=32", "--name", "it's")
    first = lab.attach()
    program, *words = shlex.split(first.command)
    assert program == "lepton-lab"
    call(*words)
    again = lab.attach()
    assert again != first and again.spec == first.spec
    losses = [[row["loss"] for row in run.rows("train")] for run in (first, again)]
    assert losses[0] == losses[1]


def test_json_is_the_only_thing_on_stdout():
    record = json.loads(call(*TINY, "--json")[0])
    assert record["state"] == "done" and record["failure"] is None and record["test_accuracy"] > 0.3
    assert (record["epoch"], record["epochs"], record["remark"]) == (1, 1, "")
    assert record["spec"]["model"] == "mlp" and record["folder"].endswith(record["id"])
    assert json.loads(call("show", record["id"], "--json")[0])["id"] == record["id"]
    assert [row["id"] for row in json.loads(call("list", "--json")[0])] == [record["id"]]


def test_a_spec_file_and_a_run_to_start_from(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump({"model": "mlp", "epochs": 1, "lr": 0.02, "options": {"hidden": 16}}))
    call("run", "--spec", file, "--seed", 5)
    first = lab.attach()
    assert (first.spec.lr, first.spec.seed, first.spec.options) == (0.02, 5, {"hidden": 16})
    call("run", "--like", first.id, "--lr", "0.03", "--option", "dropout=0.5")
    assert lab.attach().spec == first.spec.replace(lr=0.03, options={"hidden": 16, "dropout": 0.5})


def test_code_of_a_cell_is_run_again():
    from torch import nn

    lab.launch(Spec(epochs=1), model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).wait(60)
    first = lab.attach()
    assert first.command == f"lepton-lab run --like {first.id}"
    call("run", "--like", first.id)
    assert lab.attach() != first and lab.attach().spec == first.spec


def test_list_is_a_table():
    assert "no runs yet" in call("list")[0]
    call(*TINY)
    call(*TINY, "--name", "wide [red]")
    lines = call("list")[0].splitlines()
    assert lines[0].split()[:3] == ["id", "state", "what"]
    assert "wide [red]" in lines[1] and "mlp on digits" in lines[2]
    assert all(run.id in line for run, line in zip(lab.runs(), lines[1:], strict=True))


@pytest.mark.parametrize("width", [40, 60, 79, 80])
def test_list_never_cuts_an_id(width, monkeypatch):
    from lepton_lab.store.folder import RunFolder

    run = lab.attach(RunFolder.create(Spec(name="a name that is longer than there is room for")).id)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    lines = click.unstyle(call("list")[0]).splitlines()
    assert run.id in lines[1] and max(map(len, lines)) <= width
    assert ("val loss" in lines[0]) == (width >= 80)


def test_a_reader_that_goes_leaves_the_run_to_itself():
    process = start(*ENDLESS)
    assert process.stdout.readline().split()[0] == "epoch"
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(60) == 141
    process.stderr.close()
    run = lab.attach()
    assert told.count("\n") == 1 and "the run goes on" in told and f"lepton-lab watch {run.id}" in told
    assert run.state == "running"
    run.stop()
    assert run.wait(60) == "stopped"


def test_a_reader_that_goes_ends_other_commands_in_silence():
    call(*TINY)
    process = start("show")
    process.stdout.close()  # long before it writes
    assert process.stderr.read() == "" and process.wait(60) == 141
    process.stderr.close()


def test_an_interrupted_run_says_how_to_go_on():
    from lepton_lab.store.folder import RunFolder

    run = lab.attach(RunFolder.create(Spec()).id)  # that nobody has
    head, remark, *_ = call("show")[0].splitlines()
    assert head == f"{run.id}  interrupted" and remark == run.remark != ""
    assert json.loads(call("show", "--json")[0])["remark"] == run.remark


def test_steering(live):
    assert call("pause")[0].split() == [live.id, "paused"]
    assert json.loads(call("pause", "--json")[0])["state"] == "paused"
    assert call("resume", live.id)[0].split() == [live.id, "running"]
    assert call("set", "--lr", "0.002")[0].split() == [live.id, "running"]
    assert [row["lr"] for row in live.rows("note") if row.get("command") == "set"] == [0.002]
    assert "lr='x'" in call("set", "--lr", "x", code=2)[1]
    assert call("stop")[0].split() == [live.id, "stopped"]
    assert "has ended (stopped)" in call("pause", code=2)[1]
    assert call("resume")[0].split() == [live.id, "running"]


def test_a_run_goes_on_under_what_is_asked_for(live):
    call("stop")
    words = ["--strategy", "pipeline", "--world", "2", "--option", "microbatches=4", "--timeout", "60"]
    assert call("resume", *words, "--device", "cpu")[0].split()[0] == live.id
    spec = lab.attach(live.id).spec
    assert (spec.strategy, spec.world, spec.options) == ("pipeline", 2, {"microbatches": 4})
    assert (spec.device, spec.timeout) == ("cpu", 60.0)
    call("stop")
    assert "microbatch" in call("resume", "--option", "microbatch=4", code=2)[1]


def test_a_run_goes_where_it_is_told_to():
    assert "on='cluster': unknown launcher" in call("run", "--on", "cluster", code=2)[1]
    assert "time='1h': must be" in call("find-lr", "--on", "slurm:time=1h", code=2)[1]
    id = call("run", "--model", "mlp", "--on", "torchrun:1,address=127.0.0.1", "--detach")[0].strip()
    run = lab.attach(id)
    assert run.facts["launcher"]["name"] == "torchrun" and run.command.endswith("--on torchrun:address=127.0.0.1")
    call("stop")
    assert call("resume", "--on", "here", code=2) and run.state == "stopped"
    call("resume", "--on", "local")
    assert run.wait(60) == "done" and not run.facts["launcher"]


# The other is sent in the test of a second one, below.
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupt_stops_the_run_and_saves_it(number):
    process = start(*ENDLESS)
    run = until(lambda: lab.runs() and lab.runs()[0])
    until(lambda: run.summary()["step"] > 0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert run.state == "stopped" and run.facts["checkpoint"] > 0
    assert out.splitlines()[-1].startswith("stopped") and "Stopping at the next step" in err


def test_a_second_interrupt_leaves_the_run_to_itself(monkeypatch):
    monkeypatch.setattr(lab.Run, "stop", lambda self: None)  # a run that takes long to stop
    call(*ENDLESS, "--detach")
    run = lab.attach()
    until(lambda: run.state == "running")
    from lepton_lab.cli import progress

    sent = []

    def impatient(seconds):
        if len(sent) < 2:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(progress.time, "sleep", impatient)
    assert progress.follow(run, quiet=True) == "running"
    monkeypatch.undo()
    run.stop()
    run.wait(60)


def test_a_failed_run_exits_with_one_and_says_why():
    out, err = call(*TINY, "--optimizer", "sgd", "--lr", "1e30", code=1)
    assert out.splitlines()[-1].startswith("failed")
    assert "NonFinite" in err and "lower lr" in err
    record = json.loads(call("show", "--json")[0])
    assert record["failure"]["type"] == "NonFinite"
    assert "Failed: rank 0" in call("show")[0]
    assert "NonFinite: the loss became NaN or infinite at step" in call("logs")[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--lr", "0"], "lr='0': must be greater than 0"),
        (["run", "--option", "dropout=9"], "'dropout': 9}: must be at least 0 and less than 1"),
        (["run", "--lr", "nan"], "lr="),
        (["run", "--model", "cmn"], "did you mean 'cnn'?"),
        (["run", "--dataset", "digit"], "did you mean 'digits'?"),
        (["run", "--strategy", "dpp"], "did you mean 'ddp'?"),
        (["run", "--batch-size", "1", "--world", "2"], "batch_size=1: must be at least 2"),
        (["run", "--world", "999", "--batch-size", "999"], "LEPTON_LAB_MAX_WORKERS=999"),
        (["run", "--option", "hiden=3"], "did you mean 'hidden'?"),
        (["run", "--option", "hidden"], "must be key=value"),
        (["run", "--spec", "nowhere.yaml"], "can't be read"),
        (["run", "--spec", "a.yaml", "--like", "b"], "one of the two"),
        (["run", "--like", "nope"], "run 'nope' does not exist"),
        (["run", "--learning-rate", "1"], "Did you mean '--lr'?"),
        (["run", "--num-nodes", "1"], "Did you mean '--world'?"),
        (["run", "--epoch", "1"], "--epochs"),
        (["show", "nope"], "run 'nope' does not exist"),
        (["stop"], "there are no runs yet"),
        (["set"], "set needs a value"),
        (["report"], "there are no runs yet"),
        (["report", "nope"], "run 'nope' does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_starts_nothing(words, sentence):
    out, err = call(*words, code=2)
    assert out == "" and sentence in err and "Traceback" not in err
    assert lab.runs() == []


def test_a_root_that_cannot_be_written_is_refused(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_HOME", "/proc/nowhere")
    assert "set LEPTON_LAB_HOME" in call(*TINY, code=2)[1]


def test_report_and_demo(tmp_path):
    out, _ = call("demo")
    run = lab.attach()
    assert run.spec.world == 2 and run.spec.model == "cnn"
    assert out.splitlines()[-1] == f"Report: {run.folder / 'report.html'}"
    assert run.summary()["test_accuracy"] >= 0.95
    assert (run.folder / "report.html").stat().st_size > 10_000
    assert call("report", run.id, "--out", tmp_path / "r.html")[0].strip() == str(tmp_path / "r.html")


def test_an_epoch_with_a_pause_has_no_rate():
    epochs = Epochs(type("Run", (), {"spec": Spec(epochs=2, eval_every=0), "metrics": known()}))
    at = iter(range(100))

    def event(kind, **values):
        return {"kind": kind, "t": float(next(at)), "rank": 0, **values}

    def line(rows):
        return [text.split() for text in epochs.feed(rows)]

    running = event("state", state="running", steps=4, step=0)
    first = line([running, event("eval", split="train", epoch=0, step=2, loss=1.0, samples=50)])
    assert first[1] == ["1/2", "2", "1", "-", "-", "-", "50"]
    pause, resume = event("state", state="paused", step=3), event("state", state="running", step=3)
    assert line(
        [pause, resume, event("eval", split="train", epoch=1, step=4, loss=0.5, accuracy=0.75, samples=50)]
    ) == [["2/2", "4", "0.5", "0.75", "-", "-", "-"]]
    assert epochs.story.steps == 4


@pytest.mark.parametrize(("width", "named"), [(80, 7), (74, 7), (60, 5), (40, 3)])
def test_a_line_an_epoch_fits_a_narrow_terminal(width, named):
    epochs = Epochs(type("Run", (), {"spec": Spec(epochs=9, eval_every=0), "metrics": known()}), width)
    row = {"kind": "eval", "t": 1.0, "rank": 0, "split": "train", "epoch": 0, "step": 23, "loss": 2.0, "accuracy": 0.5}
    heads, line = epochs.feed([row | {"samples": 50}])
    assert len(heads) == len(line) <= width and line.split()[0] == "1/9"
    names = ("epoch", "step", "train loss", "accuracy", "val loss", "samples/s")
    assert sum(name in heads for name in names) == len(line.split()) - heads.count("accuracy") // 2
