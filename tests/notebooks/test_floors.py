"""Trained models beat stated floors on real data."""

import json

import pytest
import torch
from helpers import ROOT
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.datasets.files import missing
from lepton_lab.files import data_root
from lepton_lab.metrics.bits import bits_per_byte


@pytest.mark.slow
def test_the_digits_cnn_learns():
    run = lab.launch(lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=10))
    assert run.wait(120) == "done"
    assert run.rows("eval")[-1]["accuracy"] >= 0.97


@pytest.mark.slow  # the digits tell the same sooner
def test_the_gpt_learns_python_s_reference():
    """One pass over 400,000 characters, a few seconds: far below what counting characters gives, 4.5 bits a byte."""
    data = DATASETS["pydocs"](data_root(), 0)
    shares = torch.bincount(data.test[1].flatten()) / data.test[1].numel()
    counting = -(shares * shares.clamp(min=1e-9).log()).sum().item() * bits_per_byte(data, data.test[1])
    run = lab.launch(lab.Spec(dataset="pydocs", model="gpt", world=2, epochs=1, batch_size=32, lr=3e-3))
    assert run.wait(120) == "done", run.failure
    row = run.rows("eval")[-1]
    assert row["split"] == "test" and row["bits_per_byte"] < 2.8 < counting - 1.5 and row["accuracy"] > 0.45


@pytest.mark.slow  # a minute; `make bench` tells the figure
def test_the_mnist_cnn_learns(data_root):
    run = lab.launch(lab.Spec(dataset="mnist", model="mnist_cnn", strategy="ddp", world=2, epochs=3, batch_size=128))
    assert run.wait(280) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] >= 0.985


@pytest.mark.slow  # a quarter of a minute
def test_a_residual_net_reads_digits_after_one_pass(data_root):
    fields = {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "schedule": "one_cycle", "precision": "auto"}
    options = {"pool": "largest", "initialisation": "gaussian"}
    spec = lab.Spec(dataset="mnist", model="resnet", options=options, epochs=1, batch_size=128, **fields)
    run = lab.launch(spec)
    assert run.wait(280) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] >= 0.987


@pytest.mark.slow  # half a minute
def test_a_transformer_from_scratch_reads_sentiment(data_root):
    """One pass over SST-2's phrases; the test is whole sentences, which share nothing with them."""
    if not (data_root / "sst2").is_dir():
        pytest.skip("no SST-2 under LEPTON_LAB_DATA")
    fields = {"epochs": 1, "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "schedule": "one_cycle"}
    options = {"width": 64, "depth": 2, "dropout": 0.2}
    run = lab.launch(lab.Spec(dataset="sst2", model="transformer", options=options, **fields))
    assert run.wait(280) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] >= 0.77


@pytest.mark.slow
def test_gates_remember_what_a_plain_state_forgets():
    """Which of four words came first, 20 words ago."""
    x = torch.randint(1, 5, (3500, 20))
    accuracy = {}
    for cell in ("plain", "gru"):
        options = {"cell": cell, "width": 32, "depth": 1, "reads": "last"}
        spec = lab.Spec(model="rnn", options=options, optimizer="adam", lr=5e-3, batch_size=64, epochs=6, eval_every=0)
        run = lab.launch(spec, data=((x[:-500], x[:-500, 0] - 1), (x[-500:], x[-500:, 0] - 1)))
        assert run.wait(120) == "done", run.failure
        accuracy[cell] = run.summary()["test_accuracy"]
    assert accuracy["gru"] > 0.9 and accuracy["gru"] > accuracy["plain"] + 0.1, accuracy


@pytest.mark.slow  # half a minute
def test_neighbours_of_a_noun_are_of_its_kind(data_root):
    """What a notebook claims of its word vectors, by its own cells: a kind by chance is 12 % of the nouns."""
    if any(missing(name, data_root) for name in ("verses", "tinyshakespeare", "glosses")):
        pytest.skip("no verses, plays or glosses under LEPTON_LAB_DATA")
    cells = json.loads((ROOT / "notebooks" / "applications" / "language.ipynb").read_text())["cells"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    names: dict = {}
    for cell in ("l01", "l02", "l05", "vectors-1", "vectors-2", "vectors-3"):
        exec(compile(sources[cell], cell, "exec"), names)
    purity = {name: names["pure"](vectors).mean for name, vectors in names["directions"].items()}
    assert purity["skip-gram"] >= 24 and purity["counting"] >= 28 and 11 < names["chance"] < 13, purity


class Reader(nn.Module):
    """Reads digits; its 48 features are what the Fréchet distance compares."""

    def __init__(self):
        super().__init__()
        layers = [nn.PixelUnshuffle(2)]
        for maps, more in ((4, 16), (16, 32), (32, 32), (32, 48)):
            layers += [nn.Conv2d(maps, more, 3, padding=1, bias=False), nn.BatchNorm2d(more), nn.ReLU()]
        layers.insert(7, nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.out = nn.Linear(48, 10)

    def forward(self, x):
        return self.out(self.features(x))


@pytest.mark.slow  # a minute on a quiet core
@pytest.mark.timeout(600)
def test_a_flow_makes_digits_that_are_read_as_what_was_asked_for(data_root, tmp_path):
    judging = {"optimizer": "adamw", "lr": 1e-2, "schedule": "one_cycle", "batch_size": 128, "epochs": 1}
    judge = lab.launch(lab.Spec(dataset="mnist", **judging), model=Reader)
    assert judge.wait(280) == "done", judge.failure
    reader, many = judge.model().eval(), torch.export.Dim("many", min=2, max=2**20)
    program = torch.export.export(reader.features, (torch.zeros(2, 1, 28, 28),), dynamic_shapes=({0: many},))
    torch.export.save(program, tmp_path / "features.pt2")
    asked = {"labels": True, "extractor": str(tmp_path / "features.pt2")}
    flow = lab.Spec(dataset="mnist", task="flow_matching", model="flow", lr=2e-3, batch_size=128, epochs=3, ema=0.99)
    run = lab.launch(flow.replace(schedule="cosine", metrics=["frechet_distance"], options=asked))
    assert run.wait(500) == "done", run.failure
    assert run.rows("eval")[-1]["frechet_distance"] < 25  # as many real digits are at less than 2
    model, labels, noise = run.model("ema").eval(), torch.arange(2000) % 10, torch.randn(2000, 16)
    with torch.no_grad():
        made = model.make(noise, labels)
        assert (reader(made).argmax(1) == labels).float().mean() > 0.75
        assert (reader(model.decoder(noise)).argmax(1) == labels).float().mean() < 0.2, "noise is of no class"
