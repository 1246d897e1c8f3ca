"""Transformers: against formulas written out, split layers, causality, positions, patches, and drawing of tokens."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS, sample
from lepton_lab.models.blocks import MLP, Attention, Rotary
from lepton_lab.models.transformer import Patches

pytestmark = pytest.mark.usefixtures("one_thread")


def gpt(vocabulary=11, context=12, **options):
    return MODELS["gpt"]((context,), vocabulary, vocabulary, **{"width": 16, "depth": 2, **options}).eval()


def count(model):
    return sum(p.numel() for p in model.parameters())


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_its_formula(causal):
    B, T, E, H = 2, 5, 12, 3
    attention = Attention(E, H, causal).double()
    x = torch.randn(B, T, E, dtype=torch.float64)
    heads = []
    for h in range(H):
        q, k, v = (layer(x)[:, :, 4 * h : 4 * h + 4] for layer in (attention.q, attention.k, attention.v))  # (B, T, D)
        scores = q @ k.mT / math.sqrt(4)  # (B, T, T)
        if causal:
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v)
    assert torch.allclose(attention(x), attention.out(torch.cat(heads, -1)), atol=1e-12)


@pytest.mark.parametrize("rotary", [0, 8])
def test_layers_split_by_heads_add_up_to_the_whole(rotary):
    """What a tensor split does: columns of q, k, v and up, rows of out and down, and one sum."""
    x = torch.randn(2, 8, 16, dtype=torch.float64)
    whole, mlp = Attention(16, 4, True, rotary).double(), MLP(16).double()
    for module, columns, row in ((whole, ("q", "k", "v"), "out"), (mlp, ("up",), "down")):
        parts = []
        for rank in range(2):
            part = Attention(16, 4, True, rotary).double() if module is whole else MLP(16).double()
            for name in columns:
                layer = getattr(module, name)
                half = layer.out_features // 2
                split = nn.Linear(layer.in_features, half).double()
                split.weight.data = layer.weight.data[rank * half : (rank + 1) * half]
                split.bias.data = layer.bias.data[rank * half : (rank + 1) * half]
                setattr(part, name, split)
            layer = getattr(module, row)
            half = layer.in_features // 2
            split = nn.Linear(half, layer.out_features, bias=False).double()
            split.weight.data = layer.weight.data[:, rank * half : (rank + 1) * half]
            setattr(part, row, split)
            parts.append(part(x))
        assert torch.allclose(module(x), sum(parts) + getattr(module, row).bias, atol=1e-12)


def test_rotary_products_depend_on_distance_alone():
    rotary = Rotary(8, 32).double()
    q, k = (torch.randn(8, dtype=torch.float64).expand(1, 1, 32, 8) for _ in range(2))
    products = (rotary(q) @ rotary(k).mT)[0, 0]  # (T, T)
    for distance in (-9, 0, 4):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal))
    assert products.diagonal(1)[0] != products.diagonal(2)[0]
    assert torch.allclose(rotary(q).norm(dim=-1), q.norm(dim=-1))


# --- gpt --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"positions": "learned"}, {"tied": True}])
def test_gpt_sees_nothing_that_is_still_to_come(options):
    model = gpt(**options)
    x = torch.randint(11, (3, 12))
    later = x.clone()
    later[:, 7:] = (later[:, 7:] + 1) % 11
    before, after = model(x), model(later)
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])
    assert torch.allclose(before[:, :5], model(x[:, :5]), atol=1e-6)  # and less than its context


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_gpt_knows_the_order_of_what_came_before(positions):
    model = gpt(positions=positions)
    x = torch.tensor([[1, 2, 3, 4, 5]])
    swapped = torch.tensor([[2, 1, 3, 4, 5]])
    assert not torch.allclose(model(x)[0, -1], model(swapped)[0, -1])


def test_gpt_learns_to_copy():
    """A sequence repeated: after the first pass each token is known by looking back."""
    model = gpt(context=15, width=32).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        x = torch.randint(11, (32, 8)).repeat(1, 2)  # (B, 16)
        loss = functional.cross_entropy(model(x[:, :-1])[:, 8:].flatten(0, 1), x[:, 9:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 < math.log(11)


def test_weight_tying_saves_a_matrix():
    assert count(gpt()) - count(gpt(tied=True)) == 11 * 16
    model = gpt(tied=True)
    assert model.head.out.weight is model.embed.tokens.weight
    fresh = gpt(tied=True)
    fresh.load_state_dict(model.state_dict())
    x = torch.randint(11, (2, 12))
    assert torch.equal(fresh(x), model(x))


def test_sizes():
    assert count(MODELS["gpt"]((64,), 103, 103)) == 213_248
    assert count(MODELS["transformer"]((1, 8, 8), 10)) == 202_058
    assert count(MODELS["transformer"]((1, 28, 28), 10)) == 204_938


@pytest.mark.parametrize(("name", "told"), [("gpt", ((12,), 11, 11)), ("transformer", ((1, 8, 8), 10, 0))])
def test_parts_in_their_order_are_the_whole(name, told):
    model = MODELS[name](*told, depth=3).eval()
    x = torch.randint(11, (2, 12)) if name == "gpt" else torch.randn(2, 1, 8, 8)
    y = model.embed(x)
    for block in model.blocks:
        y = block(y)
    assert torch.equal(model.head(y), model(x))
    assert [key for key, _ in model.named_children()] == ["embed", "blocks", "head"] and len(model.blocks) == 3


@pytest.mark.parametrize("name", ["gpt", "transformer"])
def test_dropout_only_while_training(name):
    model = MODELS[name]((5,), 7 if name == "gpt" else 2, 7, dropout=0.5)
    x = torch.randint(7, (2, 5))
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_other_arithmetic(precision):
    model, x = gpt(), torch.randint(11, (2, 12))
    if precision == torch.float64:
        before = model(x)
        assert torch.allclose(model.double()(x), before.double(), atol=1e-5)
    else:
        with torch.autocast("cpu", precision):
            assert model(x).dtype == precision


# --- transformer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "patch", "tokens"), [((1, 8, 8), 2, 16), ((1, 28, 28), 4, 49), ((3, 32, 32), 4, 64)])
def test_patches_by_default(shape, patch, tokens):
    embed = MODELS["transformer"](shape, 10).embed
    assert embed.patch == patch and embed(torch.zeros(2, *shape)).shape == (2, tokens, 64)


def test_patches_are_squares_row_by_row():
    embed = Patches((2, 5, 6), 3, 8, 0.0).double()
    nn.init.zeros_(embed.positions)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    filled = functional.pad(x, (0, 0, 0, 1))  # a row of zeros below
    squares = [filled[0, :, i : i + 3, j : j + 3].flatten() for i in (0, 3) for j in (0, 3)]
    assert torch.allclose(embed(x)[0], embed.project(torch.stack(squares)))


def test_transformer_tells_where_a_patch_lies():
    model = MODELS["transformer"]((1, 8, 8), 10).eval()
    x = torch.zeros(1, 1, 8, 8)
    x[..., :2, :2] = 1
    assert not torch.allclose(model(x), model(x.flip(-1)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "told", "options"),
    [
        ("transformer", ((8,), 2, 50), {}),
        ("bert", ((8,), 2, 50), {}),
        ("reader", ((8,), 8, 50), {}),
        ("gpt", ((8,), 50, 50), {}),
        ("gpt", ((8,), 50, 50), {"positions": "learned"}),
        ("encoder_decoder", ((8,), 30, 50), {}),
    ],
)
def test_more_tokens_than_it_reads_are_refused_in_a_sentence(name, told, options):
    model = MODELS[name](*told, **options)
    tokens = torch.ones(2, 20, dtype=torch.long)
    with pytest.raises(SpecError, match=r"^20 tokens are more than the 8 .* x\[:, :8\], or make the model for longer"):
        model(tokens, tokens) if name == "encoder_decoder" else model(tokens)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt", "transformer"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, "'heads': 3}: must divide width=64, of which each head gets a part; take 2 or 4"),
        ({"heads": 128}, "take 64"),
    ],
)
def test_heads_divide_the_width(name, options, said):
    with pytest.raises(SpecError) as error:
        MODELS[name](*(((12,), 11, 11) if name == "gpt" else ((1, 8, 8), 10, 0)), **options)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gpt", {"width": 12, "heads": 4}, "positions='learned'"),
        ("transformer", {"patch": 9}, "from 1 to 8"),
    ],
)
def test_options_of_one_model(name, options, said):
    with pytest.raises(SpecError) as error:
        MODELS[name](*(((12,), 11, 11) if name == "gpt" else ((1, 8, 8), 10, 0)), **options)
    assert said in str(error.value) and "\n" not in str(error.value)


# --- drawing tokens ---------------------------------------------------------------------------------------------------


class Successor(nn.Module):
    """Sure that after n comes n + 1, and knows how much it was shown."""

    def forward(self, x):
        self.seen = x.shape
        return 8.0 * functional.one_hot((x + 1) % 5, 5).float()


def test_sampling_follows_the_model():
    model = Successor()
    assert sample(model, torch.tensor([3]), 6, context=4, temperature=0).tolist() == [3, 4, 0, 1, 2, 3, 4]
    assert model.seen == (1, 4)
    assert sample(model, torch.tensor([1, 2]), 0, context=4).tolist() == [1, 2]


def test_sampling_by_seed_and_temperature():
    start = torch.tensor([0])
    drawn = [sample(Successor(), start, 50, context=4, temperature=4.0, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])

    def surprises(temperature):
        tokens = sample(Successor(), start, 400, context=4, temperature=temperature)
        return int((tokens[1:] != (tokens[:-1] + 1) % 5).sum())

    assert surprises(0.5) == 0 < surprises(2.0) < surprises(50.0)
    expected = 4 / (math.exp(4) + 4)  # at temperature 2 the other four have odds of 1 to e^4
    assert abs(surprises(2.0) / 400 - expected) < 4 * math.sqrt(expected / 400)


@pytest.mark.parametrize(
    ("tokens", "options", "said"),
    [
        ([], {}, "at least one"),
        ([1], {"count": -1}, "count=-1"),
        ([1], {"temperature": -0.5}, "temperature=-0.5"),
        ([1], {"temperature": math.nan}, "temperature=nan"),
    ],
)
def test_sampling_refuses(tokens, options, said):
    with pytest.raises(SpecError, match=said):
        sample(Successor(), torch.tensor(tokens), **{"count": 3, "context": 4, **options})
