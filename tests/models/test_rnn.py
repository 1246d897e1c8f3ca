"""Recurrent networks: each cell against torch's own, the order they read in, what they forget, and what is refused."""

import pytest
import torch
from torch import nn

from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS
from lepton_lab.models.rnn import CELLS, Layer

pytestmark = pytest.mark.usefixtures("one_thread")


def rnn(told=((7,), 3, 11), **options):
    return MODELS["rnn"](*told, **{"width": 16, **options}).eval()


@pytest.mark.parametrize(("name", "theirs"), [("plain", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_a_cell_is_torch_s(name, theirs):
    cell, other = CELLS[name](5, 8).double(), theirs(5, 8, batch_first=True).double()
    for key, value in (("ih", cell.given), ("hh", cell.state)):
        getattr(other, f"weight_{key}_l0").data = value.weight.data
        getattr(other, f"bias_{key}_l0").data = value.bias.data.clone()
    if name == "lstm":
        other.bias_ih_l0.data[8:16] += 1  # of the forget gate
    x = torch.randn(3, 9, 5, dtype=torch.float64)
    assert torch.allclose(cell(x), other(x)[0], atol=1e-12)


def test_both_directions_are_one_read_backwards():
    layer = Layer(CELLS["gru"], 8, 0.0, bidirectional=True)
    layer.left.load_state_dict(layer.right.state_dict())
    x = torch.randn(2, 5, 8)
    right, left = layer(x).chunk(2, -1)
    again = layer(x.flip(1))
    assert torch.allclose(again.chunk(2, -1)[0], left.flip(1), atol=1e-6)
    assert not torch.allclose(right, left)


@pytest.mark.parametrize("cell", CELLS)
def test_texts_are_read_from_left_to_right(cell):
    model = rnn(((7,), 11, 11), cell=cell)
    x = torch.randint(11, (3, 7))
    later = x.clone()
    later[:, 4:] = (later[:, 4:] + 1) % 11
    assert torch.equal(model(x)[:, :4], model(later)[:, :4])
    assert not torch.allclose(model(x)[:, 4:], model(later)[:, 4:])
    assert torch.allclose(model(x[:, :3]), model(x)[:, :3], atol=1e-6)


def test_what_is_read():
    x = torch.randint(11, (3, 7))
    for options in ({}, {"bidirectional": True}, {"reads": "last"}):
        assert rnn(**options)(x).shape == (3, 3)
    changed = x.clone()
    changed[:, 0] = (x[:, 0] + 1) % 11
    plain = rnn(reads="last", cell="plain", depth=1, initialisation="gaussian")
    assert (plain(x) - plain(changed)).abs().max() < 1e-3  # a state that fades has forgotten the first token


def test_images_are_read_row_by_row_and_numbers_step_by_step():
    image, steps = rnn(((2, 5, 4), 3, 0)), rnn(((5, 8), 3, 0))
    steps.load_state_dict(image.state_dict())
    x = torch.randn(6, 2, 5, 4)
    assert torch.equal(image(x), steps(x.transpose(1, 2).flatten(2)))


def gradients(cell, steps=60):
    """How much the last state of a fresh cell hears of each token, from the first to the last."""
    torch.manual_seed(0)
    layer = MODELS["rnn"]((steps, 16), 2, 0, cell=cell, width=16, depth=1).blocks[0]
    x = torch.randn(32, steps, 16, requires_grad=True)
    layer(x)[:, -1].sum().backward()
    return x.grad.norm(dim=(0, 2))


def test_a_plain_cell_hears_least_of_what_is_long_ago():
    heard = {cell: gradients(cell) for cell in CELLS}
    assert all(h[-1] > 10 * h[20] for h in heard.values())
    assert heard["plain"][20] / heard["plain"][-1] < heard["lstm"][20] / heard["lstm"][-1] / 100


@pytest.mark.parametrize(
    ("told", "options", "sentence"),
    [
        (((7,), 11, 11), {"bidirectional": True}, "next tokens are to be predicted.*take bidirectional=False"),
        (((7,), 3, 11), {"bidirectional": True, "width": 15}, "'width': 15.*must be even"),
        (((7,), 3, 0), {}, "model='rnn': takes texts, sequences .*take model='mlp'"),
    ],
)
def test_bad_options_are_refused(told, options, sentence):
    with pytest.raises(SpecError, match=sentence) as error:
        rnn(told, **options)
    assert "\n" not in str(error.value)
