"""Models that make samples: by name, as the loop by hand would have them, alike over ranks, and judged as sets."""

import math

import pytest
import torch
from helpers import call
from torch import nn

import lepton_lab as lab
from lepton_lab.charts import samples
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS
from lepton_lab.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")

GAN = {"model": "gan", "task": "adversarial", "optimizer": "rmsprop", "options": {"width": 4, "labels": True}}
FLOW = {"model": "flow", "task": "flow_matching", "options": {"width": 32, "latent": 4, "labels": True}}
SPECS = {"gan": GAN, "flow": FLOW}
MADE = {
    "gan": lambda model, labels: model(torch.randn(len(labels), 16), labels),
    "flow": lambda model, labels: model.make(torch.randn(len(labels), 4), labels),
}


def spec(name, **changes):
    common = {"dataset": "digits", "strategy": "single", "epochs": 1, "batch_size": 128, "checkpoint_every": 0}
    return lab.Spec(**{**common, **SPECS[name], "metrics": ["frechet_distance"], **changes})


def done(run):
    assert run.wait(120) == "done", run.failure
    return run


@pytest.mark.parametrize("name", SPECS)
def test_samples_are_made_of_noise_by_class_and_compared_with_real_ones(name):
    run = done(lab.launch(spec(name)))
    figures = [row for row in run.rows("eval") if row["split"] in ("val", "test")]
    assert len(figures) == 2 and all(row["frechet_distance"] > 0 for row in figures)
    told = [row["text"] for row in run.rows("note") if "frechet_distance" in row["text"]]
    assert any("real samples to" in text and "as low a figure tells of no difference" in text for text in told)
    with torch.no_grad():
        made = MADE[name](run.model(), torch.arange(10))
    assert made.shape == (10, 1, 8, 8) and made.isfinite().all()
    seen = str(samples.kept(run).first[0]["seen"])
    assert "made" in seen and "real" in seen


@pytest.mark.slow
def test_what_makes_samples_is_a_file_and_a_gan_s_run_says_how(tmp_path):
    flow = done(lab.launch(spec("flow")))
    told = lab.export(flow, tmp_path / "flow.onnx", "onnx")
    assert told["difference"] < 1e-4
    gan = done(lab.launch(spec("gan", options={"width": 4})))
    for ask in (lab.estimate, lambda run: lab.export(run, tmp_path / "gan.onnx", "onnx")):
        with pytest.raises(lab.LabError, match=r"give lab.export the module, run.model\(\), and about="):
            ask(gan)
    about = lab.About("gan", (16,), "float32")
    assert lab.export(gan.model().generator, tmp_path / "gan.onnx", "onnx", about=about)["difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp"])
@pytest.mark.parametrize("name", SPECS)
def test_two_ranks_learn_what_one_does(name, strategy):
    one, two = (done(lab.launch(spec(name, **more))) for more in ({}, {"strategy": strategy, "world": 2}))
    for ours, theirs in zip(two.model().parameters(), one.model().parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    for ours, theirs in zip(two.rows("eval"), one.rows("eval"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        if ours["split"] != "train":
            assert ours["frechet_distance"] == pytest.approx(theirs["frechet_distance"], rel=1e-2)


def test_the_command_line_takes_them_by_name():
    words = ["--model", "flow", "--task", "flow_matching", "--option", "width=8", "--option", "latent=2"]
    out, _ = call("run", *words, "--epochs", "1", "--batch-size", "512", "--json")
    assert '"model": "flow"' in out


def test_a_flow_s_losses_are_those_by_hand():
    torch.manual_seed(0)
    x, y = torch.randn(6, 3), torch.arange(6) % 2
    task, model = TASKS["flow_matching"](from_user((x, y), 0), latent=2, labels=True), MODELS["flow"]((3,), 2, latent=2)
    batch = task.prepare((x, y), torch.Generator().manual_seed(0))
    assert [part.shape for part in batch] == [(6, 3), (6, 2), (6, 2), (6,), (6,)] and batch[4].equal(y)
    told = model(*batch[:4])
    loss = {name: value.detach() for name, value in task.loss(told, batch).items()}
    assert not (told["right"] + batch[2]).requires_grad, "the flow follows the encoder, and does not pull it"
    told = {name: value.detach() for name, value in told.items()}
    assert float(loss["restoring"]) == pytest.approx(float(((told["restored"] - x) ** 2).sum() / 12), rel=1e-5)
    normal = torch.distributions.Normal
    latent = normal(told["mean"], (told["log_variance"] / 2).exp())
    apart = torch.distributions.kl_divergence(latent, normal(0.0, 1.0)).sum() / 6
    assert float(loss["spread"]) == pytest.approx(float(apart), rel=1e-4)
    goal = told["mean"] + (told["log_variance"] / 2).exp() * batch[1]
    assert torch.allclose(told["right"], goal - batch[2], atol=1e-6)


def test_noise_is_carried_along_the_velocity():
    class Growing(nn.Module):  # dx/dt = t x, whose solution is x exp(1 / 2)
        def forward(self, x, time, labels):
            return time[:, None] * x

    model = MODELS["flow"]((3,), 0, latent=2)
    model.velocity, model.decoder, noise = Growing(), nn.Identity(), torch.randn(5, 2)
    assert torch.allclose(model.make(noise), noise * math.exp(0.5), rtol=1e-3)


def test_a_discriminator_stretches_nothing_and_hears_of_classes():
    torch.manual_seed(0)
    judge = MODELS["gan"]((1, 7, 9), 3, labels=True).discriminator
    x = torch.randn(4, 1, 7, 9)
    for _ in range(20):  # until the power iteration has found the norms
        judge(x, torch.tensor([0, 1, 2, 0]))
    judge.eval()
    weight = judge.out.weight.detach()
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=1e-3)
    one, other = judge(x, torch.zeros(4).long()), judge(x, torch.ones(4).long())
    assert one.shape == (4, 1) and not torch.allclose(one, other)


def test_images_too_small_for_a_gan_are_refused():
    with pytest.raises(SpecError, match=r"model='gan': takes images .* of at least 4x4 pixels"):
        MODELS["gan"]((1, 3, 8), 2)
    assert MODELS["gan"]((1, 4, 5), 2).discriminator(torch.rand(2, 1, 4, 5)).shape == (2, 1)


@pytest.mark.parametrize("name", SPECS)
def test_labels_that_are_not_there_are_refused(name):
    data = torch.randn(40, 1, 8, 8), torch.randn(40)
    with pytest.raises(SpecError, match="have no classes to be told; leave it out"):
        lab.launch(spec(name), data=(data, data))
