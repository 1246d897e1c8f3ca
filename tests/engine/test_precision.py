"""Precision that a few steps decide: said, remembered, and to the bit what a spec that names it gives."""

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import from_user
from lepton_lab.engine import precision
from lepton_lab.tasks import make


def trained(spec):
    run = lab.launch(spec)
    assert run.wait(90) == "done", run.failure
    return run


def notes(run):
    return [row["text"] for row in run.rows("note") if row.get("text", "").startswith("precision")]


@pytest.mark.parametrize("world", [1, 2])
def test_it_is_said_remembered_and_the_same_as_by_name(world):
    spec = lab.Spec(model="mlp", epochs=1, batch_size=256, world=world, precision="auto")
    run, again = trained(spec), trained(spec)
    chosen = run.facts["precision"]
    assert chosen in ("fp32", "bf16") and notes(run) == notes(again) and run.provenance["precision"] == chosen
    (note,) = notes(run)
    assert note.startswith(f"precision: {chosen}, since a step took")
    named = trained(spec.replace(precision=chosen))
    assert not notes(named)
    for ours, theirs in zip(run.model().parameters(), named.model().parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_was_found_is_that_of_the_same_steps_alone():
    """Lengths of samples, task, loss and optimizer are among what it is remembered by."""

    def key(task="regression", loss=None, length=8, **fields):
        spec = lab.Spec(task=task, **fields)
        strategy = lab.Single(spec)
        strategy.device = torch.device("cpu")
        data = from_user((torch.zeros(40, length), torch.zeros(40, 8)), 0)
        return precision._key(strategy, data, make(spec, data, loss), torch.nn.Identity())

    keys = [key(), key(task="denoising"), key(loss=torch.nn.L1Loss()), key(length=9), key(optimizer="sgd"), key()]
    assert len({*keys}) == 5 and keys[0] == keys[-1]


@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (2.0, "fp32")])
def test_it_has_to_be_clearly_faster(monkeypatch, bf16, chosen):
    """Steps that take so long: a clock of their own."""
    now = [0.0]
    taken = {"fp32": 1.0, "bf16": bf16}

    def step(*arguments):
        def wait():
            now[0] += taken[arguments[-1]]

        return wait

    monkeypatch.setattr(precision, "_step", step)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    strategy = lab.Single(lab.Spec())
    strategy.device = torch.device("cpu")
    found = precision._timed(strategy, None, None, None, None)
    assert found.pop("precision") == chosen and found == pytest.approx(taken)
