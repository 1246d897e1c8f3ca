"""What a user's code logs and hooks do in real runs, and callbacks of the kernel."""

import asyncio
import base64
import os
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from helpers import Page, call, until
from PIL import Image
from torch import nn

import lepton_lab as lab
from lepton_lab.run import callbacks


class Gated(nn.Module):
    """A model that logs from its forward."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, x):
        lab.log("gate", self.gate)
        lab.log("samples seen", len(x), reduce="sum")
        return self.gate * self.layers(x)


def keeps_a_diary(moment):
    if moment.event == "step":
        moment.log("which", moment.rank, reduce="max")
        lab.log("norm", moment.model.layers[1].weight.grad.norm(), reduce="rank0")
    if moment.event == "evaluation" and moment.split == "val":
        lab.log_image("weights", moment.model.layers[1].weight)
        lab.log_text("figures", f"{moment.figures['val_loss']:.6f} at {moment.step}")
        lab.log_audio("tone", torch.linspace(-1, 1, 800), rate=8000)
        lab.log_histogram("spread", moment.model.layers[1].weight)
    print(moment.event, moment.step, moment.epoch, moment.split, moment.world, flush=True)


def diary():
    run = lab.launch(lab.Spec(epochs=2, batch_size=720, world=2, compile=False), model=Gated, hooks=[keeps_a_diary])
    assert run.wait(60) == "done", run.failure
    return run


def numbers(run, name, split="train"):
    rows = [row for row in run.logged("number") if (row["name"], row["split"]) == (name, split)]
    return {row["step"]: row["value"] for row in rows}


def test_numbers_of_all_ranks_are_one_curve_by_step(once):
    run = once(diary)
    assert numbers(run, "samples seen") == {1: 720, 2: 719, 3: 720, 4: 719}  # over both ranks
    assert numbers(run, "which") == dict.fromkeys(range(1, 5), 1.0)
    assert numbers(run, "gate")[1] == 1.0 and numbers(run, "gate")[4] != 1.0
    assert set(numbers(run, "gate", "val")) == {2, 4} and set(numbers(run, "gate", "test")) == {4}
    assert numbers(run, "samples seen", "test")[4] == len_of_test(run)
    norms = [row["norm"] for row in run.rows("logged") if row["rank"] == 0 and "norm" in row]
    assert list(numbers(run, "norm").values()) == pytest.approx(norms) and len(norms) == 4
    frame = run.frame()
    assert set(frame.loc[frame["kind"] == "logged", "gate"].dropna().index) and "norm" in frame


def len_of_test(run):
    return next(row["samples"] for row in run.rows("eval") if row["split"] == "test")


def test_media_are_files_that_rows_name(once):
    run = once(diary)
    kinds = ["image", "text", "audio", "histogram"]
    assert [(item["step"], item["kind"]) for item in run.logged() if item["kind"] != "number"] == [
        (step, kind) for step in (2, 4) for kind in kinds
    ]
    image, text, sound, spread = (run.logged(kind)[-1] for kind in kinds)
    with Image.open(image["path"]) as picture:
        assert picture.size == (image["width"], image["height"]) == (64, 10)
    val = next(row["loss"] for row in reversed(run.rows("eval")) if row["split"] == "val")
    assert text["text"] == f"{val:.6f} at 4"
    assert sound["path"].read_bytes()[:4] == b"RIFF" and sound["seconds"] == 0.1
    assert sum(spread["counts"]) == 640 and len(spread["edges"]) == 65
    with pytest.raises(lab.SpecError, match="did you mean 'image'"):
        run.logged("images")


def test_a_hook_is_called_at_its_moments_on_every_rank(once):
    run = once(diary)
    for rank in (0, 1):
        said = [line.split() for line in (run.folder / "logs" / f"rank{rank}.log").read_text().splitlines()]
        told = [" ".join(words) for words in said if words and words[-1] == "2" and len(words) in (4, 5)]
        assert told == [
            "start 0 0 2", "step 1 0 2", "step 2 0 2", "epoch 2 1 2", "evaluation 2 1 val 2", "step 3 1 2",
            "step 4 1 2", "epoch 4 2 2", "evaluation 4 2 val 2", "evaluation 4 2 test 2", "end 4 2 2",
        ]  # fmt: skip


def test_a_trained_model_that_logs_is_called_in_the_notebook_as_any(once):
    model = once(diary).model()
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    again = lab.repeat(once(diary), epochs=1)
    assert again.wait(60) == "done" and numbers(again, "which") == {1: 1.0, 2: 1.0}  # its hooks came along


class Steers:
    """Saves, dies once, sets a rate and stops."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self, moment):
        if moment.event != "step":
            return
        lab.log("life", 2.0 if Path(self.flag).exists() else 1.0)
        lab.log_text("step", str(moment.step))
        if moment.step == 3:
            moment.checkpoint()
        if moment.step == 6 and not Path(self.flag).exists():
            time.sleep(0.3)  # until what was logged is on the disk
            Path(self.flag).touch()
            os._exit(1)
        if moment.step == 6:
            moment.set(lr=0.4, clip=2.0)
            moment.set(lr=0.5)  # beside the other, in its place where both speak of the same
        if moment.step == 8:
            moment.stop()


def test_a_hook_steers_and_what_it_logged_after_the_last_checkpoint_is_void_on_a_resume(tmp_path, tiny):
    spec = tiny.replace(epochs=4, eval_every=0, checkpoint_every=0)
    run = lab.launch(spec, hooks=[Steers(str(tmp_path / "flag"))])
    assert run.wait(60) == "failed" and run.store.checkpoints() == [3]
    assert numbers(run, "life") == dict.fromkeys(range(1, 6), 1.0)
    run.resume()
    assert run.wait(60) == "stopped"
    assert run.remark == "a hook asked for it at step 8" and run.store.checkpoints()[-1] == 8
    assert numbers(run, "life") == dict.fromkeys((1, 2, 3), 1.0) | dict.fromkeys(range(4, 9), 2.0)
    assert [item["text"] for item in run.logged("text")] == [str(step) for step in range(1, 9)]
    assert len(list((run.folder / "logged").iterdir())) == 8
    assert {row["step"] for row in run.rows("logged")} == set(range(1, 9)) and len(run.rows("media")) == 8
    notes = [(row["command"], row["step"], row["asked"]) for row in run.rows("note") if "command" in row]
    assert notes == [("checkpoint", 3, 3), ("set", 6, 6), ("set", 6, 6), ("stop", 8, 8)]
    assert {row["lr"] for row in run.rows("train") if row["step"] > 6} == {0.5}


def only_the_second_asks(moment):
    if moment.event == "step" and moment.rank == 1 and moment.step == 24:
        moment.stop()


def test_what_another_rank_asks_for_holds_for_all_and_a_slow_hook_is_told_of_once(tiny):
    run = lab.launch(tiny.replace(world=2, epochs=100_000, eval_every=0), hooks=[slow, only_the_second_asks])
    assert run.wait(60) == "stopped"
    ends = [max(row["step"] for row in run.rows("train") if row["rank"] == rank) for rank in (0, 1)]
    assert ends[0] == ends[1] >= 24
    (told,) = [row for row in run.rows("note") if "hook" in row]
    assert told["hook"] == "slow" and "longer than the step itself" in told["text"]


def slow(moment):
    if moment.event == "step":
        time.sleep(0.02)


def fails(moment):
    if moment.event == "epoch":
        raise ValueError("not today")


def test_a_hook_that_raises_ends_the_run_with_its_card(tiny):
    run = lab.launch(tiny, hooks=[fails])
    assert run.wait(60) == "failed"
    assert run.failure.type == "ValueError" and run.failure.message == "not today"
    assert run.failure.where.endswith(f"test_hooks.py, line {fails.__code__.co_firstlineno + 2}")


REFUSED = [
    (keeps_a_diary, "hooks=keeps_a_diary: must be a list of functions: hooks=[keeps_a_diary]"),
    ([3], "hooks: int can't be called with a moment; give a function of one"),
    ([Steers], "hooks: Steers can't be called with a moment; give one of its objects, Steers()"),
    ([lambda model, step: None], "must take one argument, a lab.Moment"),
]


@pytest.mark.parametrize(("hooks", "sentence"), REFUSED)
def test_what_is_no_hook_is_refused_before_anything_starts(hooks, sentence, tiny):
    with pytest.raises(lab.SpecError) as refused:
        lab.launch(tiny, hooks=hooks)
    assert sentence in str(refused.value) and lab.runs() == []


def test_a_script_s_callbacks_are_called_while_it_waits(tiny, capfd):
    run, seen, odd = lab.launch(tiny), [], []
    for event in callbacks.EVENTS:
        run.on(event, lambda row, event=event: seen.append((event, row.get("split") or row["state"])))
    off = run.on("epoch", odd.append)
    off.off()

    def breaks(row):
        odd.append(row["split"])
        raise KeyError("gone")

    broken = run.on("evaluation", breaks)
    until(lambda: run.state == "done")
    assert seen == []
    assert run.wait(60) == "done"
    assert [told for told in seen if told[0] in ("epoch", "evaluation")] == [
        ("epoch", "train"), ("evaluation", "val"), ("epoch", "train"), ("evaluation", "val"), ("evaluation", "test"),
    ]  # fmt: skip
    assert ("state", "running") in seen and seen.count(("end", "done")) == 1
    assert odd == ["val"] and not broken.active
    error = capfd.readouterr().err
    assert "breaks, called on 'evaluation'" in error and error.count("KeyError") == 1
    run.on("end", odd.append)  # it has ended already
    run.wait()
    assert odd[1]["state"] == "done"


def test_callbacks_with_an_unknown_event_are_refused(tiny, once):
    run = once(diary)
    with pytest.raises(lab.SpecError, match="did you mean 'evaluation'"):
        run.on("evaluate", print)
    with pytest.raises(lab.SpecError, match="give a function of one argument"):
        run.on("end", "print")


def test_a_kernel_s_callbacks_come_between_its_cells(tiny, monkeypatch):
    """A loop as a kernel has one; a cell that awaits something leaves it to others, and is busy all the same."""
    shell = types.SimpleNamespace(kernel=True, display_trap=types.SimpleNamespace(is_active=True))
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(callbacks, "EVERY", 0.01)
    seen = []

    async def cells():
        run = lab.launch(tiny)
        run.on("end", seen.append)
        while run.state != "done":
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert seen == []  # the cell is at work
        shell.display_trap.is_active = False
        while not seen:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(cells(), 60))
    assert [row["state"] for row in seen] == ["done"]


def test_a_report_shows_what_was_logged_and_plays_it(once, tmp_path):
    run = once(diary)
    page = Page(lab.report(run, tmp_path / "report.html"))
    assert [audio["src"][:22] for audio in page.all("audio")] == ["data:audio/wav;base64,"] * 2
    (first, last) = [img["src"].partition(",")[2] for img in page.all("img") if img.get("class") == "own"]
    assert base64.b64decode(last) == run.logged("image")[-1]["path"].read_bytes() and first != last
    assert run.logged("text")[-1]["text"] in page.text
    named = [img["alt"] for img in page.all("img")]
    assert any(alt.startswith("gate by optimizer step. training: 1 at step 1") for alt in named)
    assert sum(alt.startswith("Histogram of spread at step") for alt in named) == 2


def test_a_terminal_shows_the_numbers_of_each_epoch(once):
    run = once(diary)
    lines, _ = call("watch", run.id)
    gates = numbers(run, "gate")
    below = [line for line in lines.splitlines() if "gate" in line]
    assert len(below) == 2 and all(len(line) <= 80 for line in below)
    for line, step in zip(below, (2, 4), strict=True):
        assert f"gate {gates[step]:.4g}" in line and "samples seen 719" in line
