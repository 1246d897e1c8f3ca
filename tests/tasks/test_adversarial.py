"""Several players: a GAN on points of a ring, alike over ranks and through a stop, each player by its own optimizer."""

import math
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from helpers import until
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset

import lepton_lab as lab
from lepton_lab.batches import Batch
from lepton_lab.datasets import from_user
from lepton_lab.engine.turns import Turns, optimizers
from lepton_lab.errors import SpecError
from lepton_lab.metrics import METRICS
from lepton_lab.tasks.routine import Routine

pytestmark = pytest.mark.usefixtures("one_thread")

DRAW = torch.Generator().manual_seed(0)
ANGLES = 2 * math.pi * torch.rand(640, generator=DRAW)
RING = TensorDataset(torch.stack([ANGLES.cos(), ANGLES.sin()], 1))


class Patient(nn.Sequential):
    """It takes its time, so that the end is some way off when a test stops it."""

    def forward(self, x):
        if self.training:
            time.sleep(0.003)
        return super().forward(x)


def net(inputs, outputs, kind=nn.Sequential):
    return kind(nn.Linear(inputs, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, outputs))


def gan(kind=nn.Sequential):
    return nn.ModuleDict({"generator": net(2, 2, kind), "discriminator": net(2, 1)})


def patient():
    return gan(Patient)


class Ring(lab.Adversarial):
    players: ClassVar = {"discriminator": {"lr": 5e-3, "clip": 5.0}, "generator": {}}

    def prepare(self, batch, generator):
        (x,) = batch
        return x, torch.randn(len(x), 2, generator=generator, device=x.device)


class Mixed(Ring):
    players: ClassVar = {
        "discriminator": {"lr": 5e-3, "clip": 0.5, "steps": 3, "weight_decay": 0.1},
        "generator": {"optimizer": "adamw"},
    }


def spec(**changes):
    return lab.Spec(
        **{
            "optimizer": "rmsprop",
            "lr": 3e-3,
            "batch_size": 64,
            "epochs": 3,
            "strategy": "single",
            "checkpoint_every": 0,
        }
        | changes
    )


def weights(run):
    assert run.wait(120) == "done", run.failure
    return torch.cat([parameter.detach().flatten() for parameter in run.model().parameters()])


def distance(made, real):
    return (made - real).norm(dim=1).mean()


COUNTED = {"metrics": {"distance": distance}, "model": gan, "data": RING, "task": Mixed}


@pytest.fixture(scope="module")
def alone():
    """The weights after three epochs of one process, and its rows."""
    run = lab.launch(spec(keep_best="val_generator_loss", metrics=["frechet_distance"]), **COUNTED)
    return weights(run), run.rows()


@pytest.mark.parametrize(
    "strategy", ["ddp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero", "fsdp"))]
)
def test_players_over_two_ranks_are_those_of_one_process(alone, strategy):
    run = lab.launch(spec(strategy=strategy, world=2, metrics=["frechet_distance"]), **COUNTED)
    assert torch.allclose(weights(run), alone[0], atol=1e-5)
    for ours, theirs in zip(run.rows("eval"), (row for row in alone[1] if row["kind"] == "eval"), strict=True):
        for name in ("loss", "generator_loss", "discriminator_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
        for name in ("frechet_distance", "distance") if ours["split"] != "train" else ():
            assert 0 < ours[name] == pytest.approx(theirs[name], rel=1e-3)


def test_what_a_generator_made_is_compared_with_real_samples_as_sets():
    task, model = Ring(from_user(RING, 0)), gan()
    batch = RING.tensors[0][:64], torch.randn(64, 2, generator=DRAW)
    with torch.no_grad():
        outcome, made = Routine(task, model)(batch), model["generator"](batch[1])
    criterion = task.criterion()
    assert [part.tolist() for part in criterion.decoded(outcome, batch)] == [made.tolist(), batch[0].tolist()]
    assert criterion.compared(outcome, batch) is None
    metric = METRICS["frechet_distance"].of(task.data, criterion)
    figure = metric.finish(metric.add(outcome, Batch(None, batch, 1.0, 64)))
    assert figure == pytest.approx(metric.finish(metric.update(made, batch[0]))) and figure > 0.5


def test_each_player_s_loss_is_a_curve(alone):
    rows = [row for row in alone[1] if row["kind"] == "train"]
    # Of a discriminator that knows nothing yet: log 2 for each kind of sample.
    assert rows[0]["discriminator_loss"] == pytest.approx(2 * math.log(2), abs=0.1)
    assert [row["step"] for row in rows if "generator_loss" in row] == list(range(3, len(rows) + 1, 3))
    for row in rows:
        own = [row[name] for name in ("generator_loss", "discriminator_loss") if name in row]
        assert row["loss"] == pytest.approx(sum(own), rel=1e-4)
    epoch = next(row for row in alone[1] if row["kind"] == "eval" and row["split"] == "train")
    for name in ("generator_loss", "discriminator_loss"):
        seen = [(row[name], row["samples"]) for row in rows if row["epoch"] == 0 and name in row]
        assert epoch[name] == pytest.approx(sum(x * n for x, n in seen) / sum(n for _, n in seen), rel=1e-4)
    assert epoch["loss"] == pytest.approx(epoch["generator_loss"] + epoch["discriminator_loss"], rel=1e-6)
    best = [row["figure"] for row in alone[1] if row.get("best") == "val_generator_loss"][-1]
    assert best == min(row["generator_loss"] for row in alone[1] if row["kind"] == "eval" and row["split"] == "val")


@pytest.mark.slow  # the tests around hold every step to one by hand
def test_a_gan_learns_a_ring():
    run = lab.launch(spec(epochs=33, eval_every=0), model=gan, data=RING, task=Ring)
    weights(run)
    with torch.no_grad():
        made = run.model()["generator"](torch.randn(1000, 2, generator=DRAW))
    assert made.norm(dim=1).mean() == pytest.approx(1, abs=0.2)
    assert made.norm(dim=1).std() < 0.3
    octants = torch.atan2(made[:, 1], made[:, 0]).div(math.pi / 4).floor().unique()
    assert len(octants) == 8


@pytest.mark.slow
def test_players_go_on_bit_for_bit_after_a_stop_and_to_rounding_in_another_world(alone):
    parted = lab.launch(spec(), model=patient, data=RING, task=Mixed)
    until(lambda: len(parted.rows("train")) > 8)
    parted.stop()
    assert parted.wait(60) == "stopped"
    parted.resume()
    assert torch.equal(weights(parted), alone[0])

    moved = lab.launch(spec(strategy="zero", world=2), model=patient, data=RING, task=Mixed)
    until(lambda: len(moved.rows("train")) > 8)
    moved.stop()
    assert moved.wait(60) == "stopped"
    moved.resume(strategy="fsdp")
    assert torch.allclose(weights(moved), alone[0], atol=1e-5)


def test_turns_are_the_loop_by_hand():
    task, ours, theirs = Mixed(from_user(RING, 0)), gan(), gan()
    theirs.load_state_dict(ours.state_dict())
    strategy = lab.Single(spec())
    strategy.start(0, 1, Path(), torch.device("cpu"))
    strategy.routine = partial(Routine, task)
    strategy.setup(ours, optimizers(strategy, task, strategy.spec))
    turns, criterion = Turns(strategy, task), task.criterion()
    generator, discriminator = theirs["generator"], theirs["discriminator"]
    first = torch.optim.RMSprop(discriminator.parameters(), 5e-3, weight_decay=0.1)
    second = torch.optim.AdamW(generator.parameters(), 3e-3, weight_decay=0, fused=True)
    for number in range(4):
        real, noise = torch.randn(8, 2, generator=DRAW), torch.randn(8, 2, generator=DRAW)
        turns.step([Batch(((real, noise),), (real, noise), 1.0, 8)], 1, criterion, 0.0)
        made = generator(noise).detach()
        first.zero_grad()
        (softplus(-discriminator(real)).mean() + softplus(discriminator(made)).mean()).backward()
        nn.utils.clip_grad_norm_(discriminator.parameters(), 0.5)
        first.step()
        if number % 3 < 2:  # the generator's is every third
            continue
        second.zero_grad()
        softplus(-discriminator(generator(noise))).mean().backward()
        second.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


class Held(Ring):
    """One player's steps are too short to be seen, by its clip; so what the other learns is its own."""

    players: ClassVar = {"generator": {"clip": 1e-9, "optimizer": "sgd"}, "discriminator": {}}


def test_each_player_has_its_own_optimizer_rate_and_clip():
    model = gan()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    run = lab.launch(spec(epochs=1), model=model, data=RING, task=Held)
    weights(run)
    for name, parameter in run.model().named_parameters():
        assert torch.allclose(parameter, before[name], atol=1e-7) == name.startswith("generator")


def test_a_task_of_the_table_needs_no_class():
    run = lab.launch(spec(task="adversarial", options={"noise": 2}, epochs=1), model=gan, data=RING)
    weights(run)
    assert {"generator_loss", "discriminator_loss"} <= run.rows("eval")[-1].keys()


class Unknown(Ring):
    players: ClassVar = {"discriminator": {"rate": 1.0}, "generator": {}}


class Never(Ring):
    players: ClassVar = {"discriminator": {"steps": 0}, "generator": {}}


class Growing(Ring):
    players: ClassVar = {"discriminator": {"weight_decay": -1.0}, "generator": {}}


class Unsuited(Ring):
    players: ClassVar = {"discriminator": {"optimizer": "muon"}, "generator": {}}


def sharing():
    model = gan()
    model["discriminator"][0] = model["generator"][0]
    return model


REFUSED = [
    (sharing(), Ring, {}, "players 'discriminator' and 'generator' share a parameter, discriminator.0.weight"),
    (net(2, 2), Ring, {}, "model=Sequential has no part 'discriminator'"),
    (nn.ModuleDict({**gan(), "judge": net(2, 1)}), Ring, {}, "'judge.0.weight' belongs to none of the players"),
    (gan(), Unknown, {}, "'discriminator': unknown option of a player (.*)lr, momentum, clip, weight_decay, steps"),
    (gan(), Never, {}, "'discriminator': steps=0: give a whole number"),
    (gan(), Growing, {}, "'discriminator': .*weight_decay"),
    (gan(), Unsuited, {"strategy": "fsdp", "world": 2}, "'discriminator': .*optimizer='muon': needs whole matrices"),
    (gan(), Ring, {"strategy": "local_sgd", "world": 2}, "step of its own, which it can't call; take one of 'single'"),
    (gan(), Ring, {"compile": True}, "can't be compiled"),
    (gan(), Ring, {"strategy": "ddp", "world": 2, "options": {"compress": "bf16"}}, "several players; leave it out"),
]


@pytest.mark.parametrize(("model", "task", "changes", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_players_that_can_t_be_are_refused_before_anything_starts(model, task, changes, words):
    with pytest.raises(SpecError, match=words):
        lab.launch(spec(**changes), model=model, data=RING, task=task)
    assert lab.runs() == []


def test_no_door_leads_to_a_strategy_that_has_no_turns():
    x = torch.randn(32, 2)
    model = nn.ModuleDict({"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)})
    spec = lab.Spec(task="adversarial", options={"noise": 2}, epochs=1, batch_size=16, strategy="single")
    own = {"model": model, "data": ((x, x), (x, x))}
    with pytest.raises(lab.SpecError, match="local_sgd"):
        lab.race(spec.replace(world=2, strategy="ddp"), ["local_sgd"], **own)
    run = lab.launch(spec, **own)
    assert run.wait(60) == "done", run.failure
    with pytest.raises(lab.SpecError, match="local_sgd"):
        run.extend(epochs=1, strategy="local_sgd", world=2)
