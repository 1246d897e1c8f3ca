"""Trained models beat stated floors on real data."""

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
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
