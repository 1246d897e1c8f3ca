"""A run from launch to end, seen and steered by Python alone."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from helpers import ranks_of, until
from torch import nn

import lepton_lab as lab
from lepton_lab.host import cores
from lepton_lab.store import checkpoints
from lepton_lab.store.folder import RunFolder


def test_launch_returns_at_once_and_the_run_ends_as_done(tiny):
    run = lab.launch(tiny.replace(world=2))
    assert run.state in ("queued", "starting", "running")
    assert run.wait(60) == "done"
    assert run.failure is None
    rows = run.rows("train")
    steps = 2 * math.ceil(1439 / 128)
    assert [row["step"] for row in rows if row["rank"] == 0] == list(range(1, steps + 1))
    assert {row["rank"] for row in rows} == {0, 1}
    assert sum(row["samples"] for row in rows) == 2 * 1439  # every sample once an epoch
    for row in rows:
        assert row["kind"] == "train" and row["loss"] > 0 and 0 <= row["accuracy"] <= 1 and row["epoch"] in (0, 1)
    evals = run.rows("eval")
    assert [row["split"] for row in evals] == ["train", "val", "train", "val", "test"]
    assert sum(map(sum, evals[-1]["confusion"])) == evals[-1]["samples"]


def test_frame_holds_the_rows(tiny):
    run = lab.launch(tiny)
    assert run.wait(60) == "done"
    frame = run.frame()
    assert len(frame) == len(run.rows()) and frame["state"].iloc[-1] == "done"
    assert {"kind", "t", "rank", "step", "epoch", "loss", "accuracy"} <= set(frame.columns)
    assert run.frame("train")["loss"].notna().all()


def test_the_curve_is_the_same_for_any_world(tiny):
    losses = []
    for world in (1, 2):
        run = lab.launch(tiny.replace(world=world, batch_size=100))
        run.wait(60)
        losses.append([row["loss"] for row in run.rows("eval")])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def paused(spec):
    """A run that holds its slots and leaves the cores to others."""
    run = lab.launch(spec)
    run.pause()
    until(lambda: run.state == "paused")
    return run


def test_two_runs_at_once_and_a_third_waits_in_the_queue(endless, monkeypatch, home):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "2")
    first, second = paused(endless), paused(endless)
    third = lab.launch(endless)
    until(lambda: any(row.get("reason", "").startswith("waits for") for row in third.rows("state")))
    assert third.state == "queued"
    holds = [f"run {run.id} (process {ranks_of(run)[0].ppid()})" for run in (first, second)]
    assert third.remark == f"waits for 2 free cpu slots, held by {holds[0]}, {holds[1]}"
    monkeypatch.setenv("LEPTON_LAB_HOME", str(home / "another"))  # devices are this user's, whatever the home
    one = lab.launch(endless.replace(world=1))
    assert f"run {first.id} of LEPTON_LAB_HOME={home} (process" in until(lambda: one.remark)
    assert one.remark.startswith("waits for 1 free cpu slot, held by ")
    one.stop()
    assert one.wait(30) == "stopped" and one.remark == "stopped while it was queued"
    first.stop()
    until(lambda: third.state == "running")
    assert third.remark == ""
    for run in (second, third):
        run.stop()
        assert run.wait(30) == "stopped"
        assert run.remark == ""


def test_runs_of_one_call_share_the_cores_from_their_start(tiny, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "2")
    for run in lab.launch([tiny.replace(epochs=1, strategy="single")] * 2):
        assert run.wait(progress=False) == "done"
        assert run.facts["threads"] == max(1, cores() // 2)


def test_a_queued_run_can_be_stopped(endless, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "2")
    live = [paused(endless), paused(endless)]
    queued = lab.launch(endless)
    until(lambda: len(queued.rows("state")) > 0)
    queued.stop()
    assert queued.wait(10) == "stopped"
    for run in live:
        run.stop()
        run.wait(30)


def test_pause_stands_still_and_resume_goes_on(endless):
    run = lab.launch(endless)
    until(lambda: len(run.rows("train")) > 20)
    run.pause()
    until(lambda: run.state == "paused")
    threading.Event().wait(0.3)  # the last flush
    seen = run.rows("train")
    last = {row["rank"]: row["step"] for row in seen}
    assert last[0] == last[1]  # all ranks at the same step
    threading.Event().wait(0.3)
    assert run.rows("train") == seen
    run.resume()
    until(lambda: run.state == "running" and len(run.rows("train")) > len(seen) + 20)
    run.stop()
    assert run.wait(30) == "stopped"


def test_a_paused_run_can_be_stopped_and_steered(endless):
    run = lab.launch(endless)
    until(lambda: run.state == "running")
    run.pause()
    until(lambda: run.state == "paused")
    run.set(lr=0.25)
    run.resume()
    until(lambda: run.rows("train") and run.rows("train")[-1]["lr"] == 0.25)
    run.pause()
    until(lambda: run.state == "paused")
    run.stop()
    assert run.wait(30) == "stopped"


@pytest.mark.parametrize("world", [1, 2])
def test_commands_sent_at_once_are_all_obeyed(endless, world):
    run = lab.launch(endless.replace(world=world))
    run.pause()
    run.resume()
    run.pause()
    run.set(lr=0.5)
    run.resume()
    until(lambda: run.rows("train") and run.rows("train")[-1]["lr"] == 0.5)
    run.pause()
    run.stop()
    assert run.wait(30) == "stopped"
    assert run.facts["checkpoint"] > 0
    given = [row["command"] for row in run.rows("note") if "command" in row]
    assert given == ["pause", "resume", "pause", "set", "resume", "pause", "stop"]


def test_what_was_set_after_a_checkpoint_of_the_same_step_survives_a_resume(endless):
    run = lab.launch(endless)
    run.pause()
    run.checkpoint()
    run.set(lr=0.5)
    run.stop()
    assert run.wait(30) == "stopped"
    seen = len(run.rows("train"))
    run.resume()
    until(lambda: len(run.rows("train")) > seen + 10)
    run.stop()
    run.wait(30)
    assert run.rows("train")[-1]["lr"] == 0.5


def test_many_commands_do_not_pile_up(endless):
    run = lab.launch(endless)
    for i in range(200):
        run.set(lr=0.001 * (i + 1))
    until(lambda: run.rows("train") and run.rows("train")[-1]["lr"] == 0.2)
    assert len(os.listdir(run.folder / "control")) <= 2
    run.stop()
    run.wait(30)


def test_a_run_like_another_takes_what_replaces_its_code(tiny):
    first = lab.launch(tiny, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    first.wait(60)
    second = lab.repeat(first, model="mlp")
    assert second.wait(60) == "done"
    assert sum(p.numel() for p in second.model().parameters()) > 5000


def test_launches_from_threads_get_a_supervisor_each(endless):
    runs = []
    threads = [threading.Thread(target=lambda: runs.append(lab.launch(endless))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        until(lambda run=run: run.state == "running")
        run.stop()
        run.wait(30)


def test_a_relative_home_and_a_tilde_are_understood(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEPTON_LAB_HOME", "here")
    run = lab.launch(tiny)
    monkeypatch.chdir("/")
    assert run.wait(60) == "done" and run.folder.parent == tmp_path / "here" / "runs"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LEPTON_LAB_HOME", "~/there")
    run = lab.launch(tiny)
    assert run.wait(60) == "done" and run.folder.parent == tmp_path / "there" / "runs"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"model": "mlp"}, "model='mlp' is no torch.nn.Module"),
        ({"model": lambda width: None}, "needs 'width'"),
        ({"loss": "mse"}, "loss=str can't be called"),
        ({"loss": nn.CrossEntropyLoss}, "loss=CrossEntropyLoss can't be called"),
        ({"loss": nn.Linear(2, 1)}, "loss=Linear has parameters of its own"),
        ({"data": ()}, r"data=\(\) is empty"),
    ],
)
def test_what_is_no_model_data_or_loss_is_refused(parts, words, home):
    with pytest.raises(lab.SpecError, match=words):
        lab.launch(lab.Spec(), **parts)
    assert not list(home.glob("runs/*"))


def test_every_command_is_an_event_and_takes_effect_on_all_ranks_at_once(endless):
    run = lab.launch(endless)
    until(lambda: len(run.rows("train")) > 10)
    run.set(lr=0.5, clip=1.0)
    until(lambda: run.rows("train")[-1]["lr"] == 0.5)
    run.checkpoint()
    until(lambda: run.folder.joinpath("checkpoints").glob("*/complete") and run.facts.get("checkpoint"))
    run.stop()
    run.wait(30)
    notes = [row for row in run.rows("note") if "command" in row]
    assert [row["command"] for row in notes] == ["set", "checkpoint", "stop"]
    assert notes[0]["lr"] == 0.5 and notes[0]["clip"] == 1.0
    changed = {min(row["step"] for row in run.rows("train") if row["rank"] == r and row["lr"] == 0.5) for r in (0, 1)}
    assert changed == {notes[0]["step"] + 1}


def test_a_stopped_run_resumes_where_it_was(endless):
    run = lab.launch(endless)
    until(lambda: len(run.rows("train")) > 10)
    run.stop()
    assert run.wait(30) == "stopped"
    step = max(row["step"] for row in run.rows("train"))
    for file in run.folder.glob("checkpoints/*/rank*.pt"):  # as of a version that kept nothing of what modules remember
        own = torch.load(file, weights_only=False)
        del own["memory"]
        torch.save(own, file)
    assert not run.model().training
    run.resume()
    assert run.state != "stopped"
    until(lambda: max(row["step"] for row in run.rows("train")) > step + 5)
    run.stop()
    run.wait(30)
    for rank in (0, 1):
        steps = [row["step"] for row in run.rows("train") if row["rank"] == rank]
        assert steps == list(range(1, len(steps) + 1))  # none twice, none missing


def test_the_trained_model_comes_back(tiny):
    run = lab.launch(tiny.replace(model="cnn", epochs=1))
    run.wait(60)
    model = run.model()
    assert not model.training
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_attach_finds_the_latest_or_one_by_id_from_another_process(endless):
    first = lab.launch(endless)
    second = lab.launch(endless.replace(name="later"))
    assert lab.attach().id == second.id
    assert lab.attach(first.id) == first
    code = f"import lepton_lab as lab; run = lab.attach({first.id!r}); run.stop(); print(run.wait(30))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "stopped"
    second.stop()
    second.wait(30)
    assert [run.id for run in lab.runs()] == [second.id, first.id]
    assert lab.runs()[0].spec == endless.replace(name="later")


def test_summary_tells_how_far_and_how_well(tiny):
    run = lab.launch(tiny.replace(name="mine"))
    run.wait(60)
    row = run.summary()
    assert row["id"] == run.id and row["name"] == "mine" and row["state"] == "done"
    assert row["step"] == row["steps"] == 24
    assert 0 < row["val_accuracy"] <= 1 and 0 < row["test_accuracy"] <= 1 and row["seconds"] > 0


def test_provenance_says_where_the_figures_come_from(tiny):
    run = lab.launch(tiny)
    run.wait(60)
    facts = run.provenance
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["seed"] == 0 and facts["device"] == "cpu" and facts["threads"] >= 1 and facts["processor"]
    assert facts["command"] == "lepton-lab run --model mlp --epochs 2 --batch-size 128"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lab.launch({"lr": 1}), ["Spec", "dict"]),
        (lambda: lab.launch(lab.Spec(world=64)), ["world=64", "at most 2", "LEPTON_LAB_MAX_WORKERS=64"]),
        (lambda: lab.launch(lab.Spec(device="cuda")), ["device='cuda'", "no GPU", "device='cpu'"]),
        (lambda: lab.launch(lab.Spec(model="cell:MyNet")), ["cell:MyNet", "model=...", "--like"]),
        (
            lambda: lab.attach("20200101-000000-0000"),
            ["20200101-000000-0000", "there are no runs yet"],
        ),
        (lambda: lab.attach(), ["no runs yet", "lab.launch"]),
    ],
)
def test_a_refused_launch_starts_and_leaves_nothing(make, words, home, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(lab.LabError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
    assert not list(home.glob("runs/*"))


def test_a_run_root_that_cannot_be_written_is_refused(home, monkeypatch, tiny):
    (home / "file").touch()
    monkeypatch.setenv("LEPTON_LAB_HOME", str(home / "file"))
    with pytest.raises(lab.LabError, match=r"run root .*file/runs' can't be written .* LEPTON_LAB_HOME"):
        lab.launch(tiny)
    monkeypatch.setenv("LEPTON_LAB_HOME", str(home))


def test_what_an_ended_run_cannot_do_is_refused(tiny):
    run = lab.launch(tiny)
    run.wait(60)
    for command in (run.pause, run.checkpoint, lambda: run.set(lr=0.1)):
        with pytest.raises(lab.LabError, match="has ended"):
            command()
    with pytest.raises(lab.LabError, match="nothing to resume"):
        run.resume()
    run.stop()  # to stop what has ended is no mistake
    assert run.state == "done"


def test_only_options_of_the_strategy_change_when_a_run_goes_on(endless):
    run = lab.launch(endless.replace(options={"hidden": 32, "dropout": 0.5}))
    run.stop()
    assert run.wait(30) == "stopped"
    with pytest.raises(lab.SpecError, match="options={'dropout': 0.1}: is no option of strategy='ddp'"):
        run.resume(options={"dropout": 0.1})
    with pytest.raises(lab.SpecError, match="unknown option"):
        run.resume(options={"compres": "bf16"})
    run.resume(options={"compress": "bf16", "dropout": 0.5})
    assert run.spec.options == {"hidden": 32, "dropout": 0.5, "compress": "bf16"}
    run.stop()
    assert run.wait(30) == "stopped", run.failure


def test_ranks_draw_dropout_of_their_own_after_a_change_of_strategy(endless):
    run = lab.launch(endless.replace(strategy="single", world=1, options={"dropout": 0.5}))
    for changes in ({}, {"strategy": "ddp", "world": 2}):
        if changes:
            run.resume(**changes)
        until(lambda: any(row["step"] > run.facts.get("checkpoint", 0) for row in run.rows("train")))
        run.stop()
        assert run.wait(30) == "stopped", run.failure
    place = run.store.checkpoint(run.facts["checkpoint"])
    one, two = (checkpoints.read(place / f"rank{rank}.pt")["random"]["torch"] for rank in (0, 1))
    assert not torch.equal(one, two)


def test_steering_is_checked_before_it_is_sent(endless):
    run = lab.launch(endless)
    for values, words in [({"lr": -1}, "lr=-1"), ({"lr": float("nan")}, "lr=nan"), ({"epochs": 3}, "only lr, clip")]:
        with pytest.raises(lab.SpecError, match=words):
            run.set(**values)
    assert os.listdir(run.folder / "control") == []
    run.stop()
    run.wait(30)


def test_a_folder_of_a_newer_version_is_refused_and_the_list_goes_on_without_it(tiny, home):
    run = lab.launch(tiny)
    run.wait(60)
    newer = home / "runs" / "20990101-000000-0000"
    newer.mkdir()
    (newer / "spec.json").write_text(json.dumps({"format": 2, "created": 0, "spec": {}}))
    with pytest.raises(lab.LabError, match="newer Lepton Lab"):
        lab.attach(newer.name)
    assert lab.runs() == [run]


def test_a_loss_that_is_not_a_number_fails_the_run_at_its_step_and_a_lower_rate_leads_on(tiny):
    run = lab.launch(tiny.replace(optimizer="sgd", lr=1e6, epochs=20, momentum=0))
    assert run.wait(60) == "failed"
    assert run.failure.type == "NonFinite"
    assert re.search("(at|after) step ([0-9]+)", run.failure.message)[2] == str(run.failure.step)
    assert run.failure.checkpoint == (run.store.checkpoints() or [None])[-1]
    assert all(row["loss"] is None or math.isfinite(row["loss"]) for row in run.rows("train"))
    assert not run.resumable and run.remedy == {"lr": 1e5}
    assert "run.resume(lr=100000) goes on from" in run.remark
    run.resume()  # to the letter, as one may insist
    assert run.wait(60) == "failed"
    assert not run.resumable and run.remedy == {} and "would fail the same way" in run.remark
    run.resume(lr=0.1, clip=1.0)
    assert lab.attach(run.id).spec.lr == 0.1
    assert run.wait(60) == "done", run.failure
    assert {row["lr"] for row in run.rows("train")} == {0.1}, "it went on from the start, since nothing was saved"
    assert run.store.story().marks == {0: "lr=0.1, clip=1"}


def test_a_rate_given_to_a_resume_holds_from_its_step_on_and_is_noted(endless):
    run = lab.launch(endless.replace(world=1))
    until(lambda: len(run.rows("train")) > 10)
    run.set(lr=0.5)
    until(lambda: run.rows("train")[-1]["lr"] == 0.5)
    run.stop()
    assert run.wait(30) == "stopped" and run.resumable
    step = run.facts["checkpoint"]

    def noted():
        return [row for row in run.rows("note") if row.get("command") == "set"]

    for times in (2, 3):  # what no checkpoint holds yet outlives another end
        with pytest.raises(lab.SpecError, match="only strategy, .* lr, clip, weight_decay can change"):
            run.resume(epochs=3)
        run.resume(lr=1e-3)  # that of the spec, which `set` had left
        until(lambda times=times: len(noted()) == times and run.rows("train")[-1]["step"] > step + 5)
        os.kill(ranks_of(run)[0].ppid(), signal.SIGKILL)  # without saving, as by a power cut
        assert run.wait(10) == "interrupted"
    run.resume()
    until(lambda: len(noted()) == 4 and run.rows("train")[-1]["step"] > step + 5)
    assert {"lr": 1e-3, "step": step}.items() <= noted()[-1].items()
    run.set(lr=2e-3)
    until(lambda: run.rows("train")[-1]["lr"] == 2e-3)
    run.stop()
    assert run.wait(30) == "stopped"
    rates = {row["step"]: row["lr"] for row in run.rows("train")}
    assert rates[step] == 0.5 and rates[step + 1] == 1e-3
    end = run.facts["checkpoint"]
    run.resume()
    until(lambda: run.rows("train")[-1]["step"] > end)
    run.stop()
    run.wait(30)
    assert run.rows("train")[-1]["lr"] == 2e-3, "the newest checkpoint holds a newer rate"


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        (
            nn.Linear,
            (np.zeros((4, 2)), [0, 1, 0, 1]),
            r"model=Linear: fit trains a module in place.*such as Linear\(\)",
        ),
        (lambda: nn.Linear(2, 2), (np.zeros((4, 2)), [0, 1, 0, 1]), "model=<lambda>: fit trains a module in place"),
        (nn.Linear(2, 2), None, "train_dataset=None: give a Dataset"),
    ],
)
def test_a_trainer_refuses_before_it_trains(model, data, says):
    with pytest.raises(lab.SpecError, match=says):
        lab.Trainer().fit(model, data)
    assert not lab.runs()


def test_trainer_trains_the_module_in_place():
    torch.manual_seed(0)
    x = torch.randn(400, 6)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    before = [p.clone() for p in model.parameters()]
    trainer = lab.Trainer(num_nodes=2, lr=0.01)
    assert trainer.fit(model, data, batch_size=20, epochs=8) is trainer
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert trainer.train_results["train_accuracy"] > 0.9
    assert trainer.train_results["train_loss"] < 0.4
    assert (model(x).argmax(1) == data.tensors[1]).float().mean() > 0.9


def test_importing_the_library_does_no_work():
    heavy = ["torch", "pandas", "matplotlib", "plotly", "IPython", "ipywidgets", "sklearn"]
    code = f"import sys, lepton_lab as lab; lab.Spec(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_is_named_tagged_noted_archived_and_deleted(home):
    folder = RunFolder.create(lab.Spec(name="first", seed=3))
    run = lab.Run(folder)
    assert (run.name, run.tags, run.note, run.archived) == ("first", [], "", False)
    run.rename("better")
    run.tag("baseline", " paper ", "paper")
    run.annotate("of Monday")
    run.archive()
    again = lab.attach("better")  # from the folder, as another process would
    assert again == run and lab.attach(run.id).spec.name == "first", "what it was asked to do stays"
    assert (again.name, again.tags, again.note, again.archived) == ("better", ["baseline", "paper"], "of Monday", True)
    row = again.summary()
    assert (row["name"], row["tags"], row["note"], row["archived"]) == ("better", again.tags, "of Monday", True)
    with pytest.raises(lab.LabError, match="'first'.* does not exist"):
        lab.attach("first")
    for wrong, field in ((lambda: run.rename("x" * 81), "name="), (lambda: run.tag("a,b"), "tag 'a,b'"),
                         (lambda: run.annotate(3), "note=3")):  # fmt: skip
        with pytest.raises(lab.SpecError, match=re.escape(field)):
            wrong()
    lock = folder.lock()
    folder.set_state("running")
    with pytest.raises(lab.LabError, match="is running: stop it first, then delete it"):
        run.delete()
    os.close(lock)
    folder.set_state("done")
    run.delete()
    assert lab.runs() == [] and list((home / "runs").iterdir()) == []


def test_the_rate_of_a_table_is_the_one_it_has_now(tiny):
    run = lab.launch(tiny.replace(epochs=4000))
    until(lambda: run.rows("train"))
    run.set(lr=3e-4)
    until(lambda: run.summary()["lr"] == 3e-4)
    run.stop()
    run.wait(60)
    assert run.summary()["lr"] == 3e-4 and run.spec.lr == tiny.lr
