"""Hogwild: memory that is really shared, has no name, and is on the CPU."""

import os
from pathlib import Path

import pytest
import torch
from helpers import Slope, height, started, until
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.launchers import devices


def test_all_ranks_write_into_the_same_weights():
    samples = torch.zeros(256, 1), torch.zeros(256)
    spec = lab.Spec(strategy="hogwild", optimizer="sgd", lr=0.25, batch_size=8, epochs=3, world=2)
    run = lab.launch(spec, model=Slope, data=(samples, samples), loss=height)
    assert run.wait(60) == "done", run.failure
    updates = -run.model().state_dict()["weight"].item() / 0.25
    steps = max(row["step"] for row in run.rows("train"))
    assert steps < updates <= 2 * steps  # of two that are made at once, one may be lost


def test_it_takes_any_layout_and_type_of_weights(tiny):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.scale = nn.Parameter(torch.ones(3, 1, 1, dtype=torch.float64))
            self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)
            self.head = nn.Linear(108, 10)

        def forward(self, x):
            return self.head((self.conv(x).relu() * self.scale).float().flatten(1) * self.fixed)

    run = lab.launch(tiny.replace(strategy="hogwild", world=2, epochs=20, batch_size=32), model=Mixed)
    assert run.wait(60) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] > 0.8


def test_a_crash_leaves_no_memory_behind(endless):
    before = set(os.listdir("/dev/shm"))
    run = lab.launch(endless.replace(strategy="hogwild"))
    ranks = started(run)
    for process in ranks:
        mapped = [m for m in process.memory_maps(grouped=False) if "lepton-lab-hogwild" in m.path]
        assert mapped and not any(Path(m.path).exists() for m in mapped)
    for process in ranks:
        process.kill()
    assert run.wait(20) == "failed"
    until(lambda: set(os.listdir("/dev/shm")) <= before)


def test_gpus_are_refused_and_never_chosen(monkeypatch):
    with pytest.raises(SpecError, match="device='cuda': strategy='hogwild' .* take device='cpu'"):
        lab.Spec(model="mlp", strategy="hogwild", device="cuda")
    monkeypatch.setattr(devices, "gpus", lambda: ["0", "1"])
    assert devices.choose(lab.Spec(strategy="hogwild", world=2)) == "cpu"
    assert devices.choose(lab.Spec(strategy="parameter_server", world=2)) == "cuda"
