"""Modules as people write them: code by hand, odd buffers, shared and frozen parts; trained as a plain loop would."""

import torch
from torch import nn

import lepton_lab as lab
from lepton_lab.models import MODELS
from lepton_lab.strategies.base import takes_channels_last


def samples(n=128, *shape, classes=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *(shape or (8,)), generator=generator), torch.randint(0, classes, (n,), generator=generator)


class Flat(nn.Module):
    """As the LeNet of PyTorch's tutorial flattens, which takes activations as convolutions by hand give them."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 4)

    def forward(self, x):
        return self.out(self.conv(x).relu().view(x.size(0), -1))


def test_a_view_after_a_convolution_trains_compresses_and_loads(tmp_path):
    part = samples(64, 1, 8, 8)
    run = lab.launch(lab.Spec(strategy="ddp", world=2, epochs=1), model=Flat, data=(part, part, part))
    assert run.wait(90) == "done", run.failure
    chain = [("prune", 0.5), ("distill", {"epochs": 1}), ("quantize", "int8")]
    child = lab.compress(run, chain, epochs=1, strategy="single", world=1)
    assert child.wait(120) == "done", child.failure
    assert lab.sensitivity(run, (0.5,), int8=False).samples == 64
    lab.export(run, tmp_path / "flat.lepton")
    assert len(lab.load(tmp_path / "flat.lepton").predict(part[0])) == 64
    advice = lab.advise(lab.Spec(), [1], ["single"], model=Flat, data=(part, part))
    assert advice.rows[0].cost.memory > 0


def test_only_rows_of_known_layers_have_kernels_in_channels_last():
    cnn = MODELS["cnn"]((1, 8, 8), 10)
    assert takes_channels_last(cnn) and takes_channels_last(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), cnn[-1]))
    assert not takes_channels_last(Flat()) and not takes_channels_last(MODELS["mlp"]((8,), 4))
    assert not takes_channels_last(nn.Sequential(Flat(), nn.Linear(4, 4)))
    assert not takes_channels_last(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)))  # the loss may view it
    cnn[0].register_forward_hook(lambda module, inputs, output: output.view(len(output), -1).view(output.shape))
    assert not takes_channels_last(cnn)
