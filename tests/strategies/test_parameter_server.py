"""The parameter server: its own side with threads as workers, and whole runs."""

import random
import threading
import time
from collections import Counter

import pytest
import torch
from helpers import Slope, height
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.strategies.parameter_server import Server


def serve(world, staleness, steps=50, timeout=10.0):
    """Workers that push one gradient after another at their own pace; returns the server and all they pushed."""
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    server = Server([weight], torch.optim.SGD([weight], lr=1.0), world, staleness, timeout, Counter())
    pushed, gaps = [], []

    def work(rank):
        draw = random.Random(rank)
        for _ in range(steps):
            time.sleep(draw.choice([0, 0, 0.002]))
            gradient = torch.tensor([draw.randint(-9, 9) for _ in range(3)], dtype=torch.float64)
            pushed.append(gradient)
            server.push(rank, gradient)
            gaps.append(server.steps[rank] - min(server.steps))

    workers = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return server, pushed, gaps


@pytest.mark.parametrize("staleness", [1, 4])
def test_each_gradient_is_applied_once_and_none_is_older_than_the_bound(staleness):
    server, pushed, gaps = serve(3, staleness)
    assert server.version == len(pushed) == sum(server.ages.values()) == 150
    assert server.parameters[0].tolist() == (-sum(pushed)).tolist()
    assert max(server.ages) <= 2 * (2 * staleness + 1)
    assert max(gaps) <= staleness


def test_without_staleness_it_averages_the_gradients_of_each_step():
    server, pushed, gaps = serve(3, 0)
    assert server.version == 50 and max(gaps) == 0 and not server.ages
    assert server.parameters[0].tolist() == pytest.approx((-sum(pushed) / 3).tolist())


@pytest.mark.parametrize("staleness", [0, 2])
def test_who_waits_in_vain_says_for_whom(staleness):
    weight = nn.Parameter(torch.zeros(1))
    server = Server([weight], torch.optim.SGD([weight], lr=1.0), 2, staleness, 0.05, Counter())
    for _ in range(staleness):
        server.push(0, torch.ones(1))
    with pytest.raises(TimeoutError, match=f"gradient of rank 1, with rank 0 {staleness + 1} steps ahead"):
        server.push(0, torch.ones(1))


def test_every_gradient_of_a_run_is_applied_once():
    samples = torch.zeros(256, 1), torch.zeros(256)
    fields = {"optimizer": "sgd", "lr": 0.25, "batch_size": 8, "epochs": 3, "world": 2}
    for staleness, each in ((3, 2), (0, 1)):
        spec = lab.Spec(strategy="parameter_server", options={"staleness": staleness}, **fields)
        run = lab.launch(spec, model=Slope, data=(samples, samples), loss=height)
        assert run.wait(60) == "done", run.failure
        updates = each * max(row["step"] for row in run.rows("train"))
        assert run.model().state_dict()["weight"].item() == -0.25 * updates


def test_an_error_in_the_servers_thread_is_the_failure_of_rank_0(tiny):
    class Breaks(nn.Linear):
        def __deepcopy__(self, memo):
            copied = nn.Linear(64, 9)  # what the server makes of the workers' gradients can't fit
            return nn.Sequential(nn.Flatten(), copied)

        def forward(self, x):
            return super().forward(x.flatten(1))

    run = lab.launch(tiny.replace(strategy="parameter_server", world=2, timeout=20), model=Breaks(64, 10))
    assert run.wait(60) == "failed"
    assert run.failure.rank == 0


def test_half_precision_with_a_scale_is_refused_for_many():
    lab.Spec(model="mlp", strategy="parameter_server", precision="fp16")
    with pytest.raises(SpecError, match="precision='fp16' with world=2: .* take precision='bf16'"):
        lab.Spec(model="mlp", strategy="parameter_server", precision="fp16", world=2)
