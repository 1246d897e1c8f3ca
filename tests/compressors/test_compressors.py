"""Compressors by themselves: what they make of a module, chains in many forms, refusals in one sentence."""

import copy
import dataclasses
import pickle

import pytest
import torch
from helpers import SHAPES, WHOLE
from torch import nn

from lepton_lab.batches import Batch
from lepton_lab.compressors import COMPRESSORS, Work, codebooks, layers, plan, rehearse
from lepton_lab.compressors.layers import rounded
from lepton_lab.compressors.masks import LABEL
from lepton_lab.compressors.rehearsal import example
from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS
from lepton_lab.spec import Spec
from lepton_lab.tables import keywords

PARENT = "20261122-000000-0000"


pytestmark = pytest.mark.usefixtures("one_thread")


def made(name):
    torch.manual_seed(0)
    return MODELS[name](*SHAPES[name]).eval()


def samples(name, n=8):
    shape, _, vocabulary = SHAPES[name]
    generator = torch.Generator().manual_seed(1)
    if vocabulary:
        return torch.randint(vocabulary, (n, *shape), generator=generator)
    return torch.randn(n, *shape, generator=generator)


def work(name, module, **given):
    shape, classes, vocabulary = SHAPES[name]
    x = samples(name, 32)
    y = torch.randint(classes, (32, *shape) if vocabulary else (32,), generator=torch.Generator().manual_seed(2))

    def loss(output, target):
        return nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())

    given = {"loss": loss, "draw": lambda count: iter([Batch(x, y, 1.0, len(x))] * min(count, 2)), **given}
    return Work(Spec(), shape, classes, vocabulary, example(module, shape, vocabulary), **given)


def applied(name, compressor, **given):
    module = made(name)
    return compressor.apply(module, work(name, module, **given))


def size(module):
    return sum(p.numel() for p in module.parameters())


def spec(chain, **fields):
    return Spec(parent=PARENT, compress=chain, **fields)


class TestChain:
    @pytest.mark.parametrize(
        "link",
        [
            ("prune", 0.25),
            ["prune", 0.25],
            {"prune": 0.25},
            ("prune", {"ratio": 0.25}),
            {"prune": {"ratio": "0.25"}},
        ],
    )
    def test_every_form_is_one(self, link):
        assert spec([link]).compress == [{"prune": {"ratio": 0.25}}]

    def test_a_name_alone_and_a_bare_value(self):
        chain = ["low_rank", ("distill", {"temperature": 2}), ("quantize", "int8")]
        told = [{"low_rank": {}}, {"distill": {"temperature": 2.0}}, {"quantize": {"scheme": "int8"}}]
        assert spec(chain).compress == told
        assert spec("prune").compress == [{"prune": {}}]
        assert spec({"distill": {"student": {"model": "mlp", "options": {"hidden": 8}}}}).compress[0]["distill"]

    def test_it_converts_back_without_loss(self):
        chain = [{"prune": {"ratio": 0.5, "ratios": {"0": 0.3}}}, {"quantize": {"keep": ["0"], "aware": True}}]
        one = spec(chain)
        assert Spec(**one.to_dict()) == Spec.load(one.to_yaml()) == one
        assert Spec(parent=PARENT, compress=str(one.compress)) == one
        script = {}
        exec(one.to_script().replace('if __name__ == "__main__"', "if False"), {"__name__": "script"}, script)
        assert script["spec"] == one

    @pytest.mark.parametrize("name", COMPRESSORS)
    def test_every_option_takes_its_own_default(self, name):
        defaults = {option: rule.default for option, rule in keywords(COMPRESSORS[name]).items()}
        defaults.pop("rank" if name == "low_rank" else "", None)  # which energy would contradict
        assert spec([{name: defaults}]).compress == [{name: defaults}]

    def test_epochs_are_shared_out(self):
        chain = [("prune", {"rounds": 2, "epochs": 5}), "distill", ("lora", {"epochs": 0}), "quantize"]
        told = [(r.link, r.name, r.round, r.epochs) for r in plan(spec(chain, epochs=3))]
        assert told == [
            (0, "prune", 1, 2),
            (0, "prune", 2, 3),
            (1, "distill", 1, 3),
            (2, "lora", 1, 0),
            (3, "quantize", 1, 0),
        ]

    @pytest.mark.parametrize(
        ("chain", "words"),
        [
            (["prun"], ["compress='prun'", "did you mean 'prune'"]),
            ([("prune", 1.5)], ["{'prune': {'ratio': 1.5}}", "greater than 0 and less than 1", "'prune'"]),
            ([("prune", 0)], ["'ratio': 0}", "greater than 0"]),
            ([("prune", "half")], ["'ratio': 'half'", "must be a number"]),
            ([("prune", {"ration": 0.5})], ["did you mean 'ratio'"]),
            ([("prune", {"importance": "size"})], ["'magnitude', 'taylor' or 'random'"]),
            ([("prune", {"rounds": 3})], ["'rounds': 3", "there are 1", "rounds=1"]),
            ([("prune", {"ratios": {"0": 1.5}})], ["{'0': 1.5}", "must be less than 1"]),
            ([("prune", {"scope": "global", "ratios": {"0": 0.5}})], ["leave ratios out"]),
            ([("mask", {"pattern": "4:2"})], ["'pattern': '4:2'", "N:M"]),
            ([("mask", {"pattern": "2:4", "ratio": 0.9})], ["'ratio': 0.9", "ratio=0.5"]),
            ([("low_rank", {"rank": 0.5, "energy": 0.9})], ["leave one of the two out"]),
            ([("low_rank", 1)], ["'rank': 1", "less than 1"]),
            ([("distill", "mlq")], ["'mlq'", "did you mean 'mlp'"]),
            ([("distill", {"student": {"model": "mlp", "options": {"hidden": 0}}})], ["'hidden': 0", "at least 1"]),
            ([("distill", {"student": {"modle": "mlp"}})], ["did you mean 'model'"]),
            (["prune", ("distill", "mlp")], ["after 'prune'", "throw that away"]),
            ([("lora", {"rank": 0})], ["'rank': 0", "at least 1"]),
            ([("quantize", "int4")], ["'scheme': 'int4'", "'int8_static'"]),
            ([("quantize", {"calibration": 0})], ["calibration=256"]),
            ([("quantize", {"scheme": "bf16", "aware": True})], ["int8_static", "bf16"]),
            ([("quantize", {"epochs": 2})], ["aware=True"]),
            ([("quantize", {"scheme": "bf16", "keep": ["1"]})], ["'keep': ['1']", "bf16 computes in floats anyway"]),
            (["quantize", "prune"], ["'prune' after 'quantize'", "must be the last link"]),
            (["mask", "distill"], ["'distill' after 'mask'", "undo the mask"]),
            ([("mask", {"rounds": 3})], ["'rounds': 3", "there are 1", "rounds=1"]),
            ([("mask", {"pattern": "2:4", "rounds": 2})], ["'rounds': 2", "leave rounds out"]),
            ([("mask", {"pattern": "2:4", "scope": "global"})], ["'scope': 'global'", "leave scope out"]),
            ([("share", 9)], ["'bits': 9", "at most 8"]),
            (["share", "mask"], ["'mask' after 'share'", "must be the last link"]),
            ([("lora", {"merge": False}), "prune"], ["merge=True"]),
            ([3], ["3 is no link", "quantize"]),
            (3, ["compress=3", "list of links"]),
            ([{"prune": 0.5, "mask": 0.5}], ["is no link"]),
        ],
    )
    def test_what_can_t_work_is_refused_in_a_sentence(self, chain, words):
        with pytest.raises(SpecError) as caught:
            spec(chain, epochs=1)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    def test_parent_and_chain_belong_together(self):
        with pytest.raises(SpecError, match="needs parent="):
            Spec(compress=["prune"])
        with pytest.raises(SpecError, match="give compress"):
            Spec(parent=PARENT)

    @pytest.mark.parametrize("strategy", ["pipeline", "tensor", "parameter_server", "hogwild"])
    def test_strategies_that_cut_models_are_refused(self, strategy):
        with pytest.raises(SpecError, match=rf"strategy='{strategy}': can't train what a compressor makes.*ddp"):
            spec(["prune"], strategy=strategy, world=2, optimizer="sgd")


@pytest.mark.parametrize("name", SHAPES)
class TestEveryModel:
    @pytest.mark.parametrize(
        ("compressor", "options"),
        [
            ("prune", {}),
            ("prune", {"importance": "taylor", "scope": "global"}),
            ("prune", {"importance": "random"}),
            ("mask", {}),
            ("mask", {"pattern": "2:4"}),
            ("share", {}),
            ("low_rank", {}),
            ("low_rank", {"energy": 0.5}),
            ("distill", {}),
            ("lora", {}),
            ("quantize", {"aware": True}),
        ],
    )
    def test_outputs_keep_their_shape_and_all_trains(self, name, compressor, options):
        chosen = COMPRESSORS[compressor](**options)
        before, x = made(name), samples(name)
        if name in WHOLE and compressor == "prune":
            with pytest.raises(SpecError, match="nothing that can be removed .*a recurrent GRU, whose width stays"):
                applied(name, chosen)
            return
        module = applied(name, chosen)
        output = module.train()(x)
        assert output.shape == before(x).shape
        output.square().mean().backward()
        trained = [p for p in module.parameters() if p.requires_grad]
        assert trained and any(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
        after = chosen.finish(module.eval())
        assert after(x).shape == before(x).shape
        assert all(p.requires_grad for p in after.parameters())
        assert not any(type(m).__module__.startswith("lepton_lab.compressors") for m in after.modules())
        if compressor in ("prune", "low_rank"):
            assert size(after) < 0.75 * size(before)
        else:
            assert size(after) == size(before)

    def test_a_rehearsal_has_the_shapes_of_the_real_one(self, name):
        shape, classes, vocabulary = SHAPES[name]
        first = [] if name in WHOLE else [("prune", {"importance": "taylor"})]
        chain = spec([*first, ("low_rank", 0.2), ("quantize", {"aware": True})])
        module = made(name)
        before = copy.deepcopy(module.state_dict())
        told = rehearse(module, chain, shape, classes, vocabulary)
        real = module
        for item in plan(chain):
            compressor = item.compressor()
            real = compressor.finish(compressor.apply(copy.deepcopy(real), work(name, real)))
        assert [p.shape for p in told.parameters()] == [p.shape for p in real.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # that the old ways are old
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal", "old weight_norm", "old spectral_norm"])
def test_plain_weights_are_what_parametrizations_compute(kind):
    torch.manual_seed(0)
    wrap = getattr(nn.utils if kind.startswith("old") else nn.utils.parametrizations, kind.split()[-1])
    module = nn.Sequential(wrap(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2))
    module[0].bias.requires_grad_(False)
    x = torch.randn(5, 6)
    module(x).sum().backward()  # leaves a weight that was computed, which can't be copied as it is
    before = module.eval()(x)
    plain = layers.unparametrized(module)
    assert torch.allclose(plain(x), before, atol=1e-6) and torch.equal(module(x), before)
    assert type(plain[0]) is nn.Linear and layers.parametrized(module) == ["0"] and not layers.parametrized(plain)
    assert plain[0].weight.requires_grad and not plain[0].bias.requires_grad
    assert torch.allclose(layers.copied(module)(x), before)
    assert layers.unparametrized(plain) is plain


RECURRENT = ("GRU", "LSTM", "RNN", "LSTMCell", "GRUCell")
ASTRAY, OTHER = "feeds code in which its channels can't be followed", "its code can't do without a part of it"
ODD = [
    ("chunk", {"middle": ASTRAY}),
    ("split", {"middle": ASTRAY}),
    ("unbind", {"middle": OTHER}),
    ("pixel_shuffle", {"middle": ASTRAY}),
    ("PixelShuffle", {"middle": ASTRAY}),
    ("pixel_unshuffle", {"middle": OTHER}),
    ("shuffle", {"middle": "channels come in another order after it"}),
    *((kind, {"first": f"feeds middle, a recurrent {kind}, whose width stays"}) for kind in RECURRENT),
]


class Odd(nn.Module):
    """Layers before and after something in which channels are not one axis any more."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first = nn.Linear(8, 8) if how in RECURRENT else nn.Conv2d(1, 8, 3, padding=1)
        self.middle = getattr(nn, how)(8, 12) if how in RECURRENT else nn.Conv2d(8, 16, 3, padding=1)
        self.side = nn.Conv2d(8, 8, 3, padding=1)
        width = {"pixel_shuffle": 4, "PixelShuffle": 4, "pixel_unshuffle": 64}.get(how, 12 if how in RECURRENT else 16)
        self.last = nn.Linear(12, 16) if how in RECURRENT else nn.Conv2d(width, 16, 3, padding=1)
        self.out = nn.Linear(16, 10)

    def _turned(self, x):
        F, channels = nn.functional, x.shape[1]
        match self.how:
            case "chunk":  # as YOLO's C2f does
                return self._block(*x.chunk(2, 1))
            case "split":
                return self._block(*x.split(8, 1))
            case "unbind":
                return self._block(*x.unflatten(1, (2, 8)).unbind(1))
            case "pixel_shuffle":
                return F.pixel_shuffle(x, 2)
            case "PixelShuffle":
                return nn.PixelShuffle(2)(x)
            case "pixel_unshuffle":
                return F.pixel_unshuffle(x, 2)
        return x.unflatten(1, (4, channels // 4)).transpose(1, 2).flatten(1, 2)

    def _block(self, a, b):
        return torch.cat([a, b + self.side(b).relu()], 1)

    def forward(self, x):
        if self.how in RECURRENT:
            x = self.first(x).relu()
            x = self.middle(x[:, 0]) if self.how.endswith("Cell") else self.middle(x.transpose(0, 1))[0][-1]
            return self.out(self.last(x[0] if isinstance(x, tuple) else x).relu())
        return self.out(self.last(self._turned(self.middle(self.first(x).relu()).relu())).relu().mean((2, 3)))


class TestPrune:
    def test_a_model_that_can_t_be_followed_is_refused_in_a_sentence(self):
        class Labelled(nn.Module):
            def forward(self, x):
                return x + None

        with pytest.raises(SpecError, match="compress='prune': the model's channels can't be followed .*TypeError"):
            COMPRESSORS["prune"]().apply(Labelled(), Work(Spec(), (3,), 2, 0, torch.zeros(2, 3)))

    def test_half_of_each_layer_goes_and_the_answers_layer_stays(self):
        prune = COMPRESSORS["prune"](ratio=0.5)
        module = applied("mnist_cnn", prune)
        assert prune.notes["kept"] == {"0": [32, 16], "3": [64, 32], "7": [128, 64]}
        assert prune.notes["left"] == {"10": "gives the model's answers"}
        assert size(module) == 56_714

    def test_heads_leave_whole(self):
        prune = COMPRESSORS["prune"](ratio=0.5)
        module = applied("transformer", prune)
        assert prune.notes["kept"]["blocks.0.attention"] == [4, 2]
        attention = module.blocks[0].attention
        assert attention.q.out_features == attention.out.in_features == 2 * attention.head_size
        assert "the width that several layers add to" in prune.notes["left"]["embed.project"]

    def test_the_least_important_go(self):
        module = made("mlp")
        with torch.no_grad():
            module[1].weight[::2] *= 0.01
        kept = module[1].weight[1::2].clone()
        module = COMPRESSORS["prune"](ratio=0.5).apply(module, work("mlp", module))
        assert torch.equal(module[1].weight, kept)

    def test_taylor_looks_at_the_loss_and_not_at_size(self):
        module = made("mlp")
        with torch.no_grad():
            module[4].weight[:, :64] = 0  # large weights that lead nowhere
            module[1].weight[:64] *= 10
        kept = module[1].weight[64:].clone()
        module = COMPRESSORS["prune"](ratio=0.5, importance="taylor").apply(module, work("mlp", module))
        assert torch.equal(module[1].weight, kept)

    def test_global_takes_where_least_is_lost(self):
        module = made("cnn")
        with torch.no_grad():
            module[3].weight[16:] *= 1e-3
        prune = COMPRESSORS["prune"](ratio=0.25, scope="global")
        prune.apply(module, work("cnn", module))
        assert prune.notes["kept"]["3"][1] < prune.notes["kept"]["5"][1]
        before, after = (sum(n[i] for n in prune.notes["kept"].values()) for i in (0, 1))
        assert after == round(0.75 * before)

    def test_rounds_end_where_one_ends(self):
        first = made("cnn")
        module = copy.deepcopy(first)
        for r in (1, 2, 3):
            prune = COMPRESSORS["prune"](ratio=0.3, rounds=3)
            module = prune.apply(module, work("cnn", module, before=lambda: first, round=r))
        assert size(module) == size(applied("cnn", COMPRESSORS["prune"](ratio=0.3)))

    def test_single_layers_by_name(self):
        prune = COMPRESSORS["prune"](ratios={"3": 0.75})
        applied("cnn", prune)
        assert {name: n[1] for name, n in prune.notes["kept"].items()} == {"0": 32, "3": 16, "5": 64, "8": 64}

    @pytest.mark.parametrize(
        ("name", "layer", "words"),
        [
            ("cnn", "11", "can't be pruned: gives the model's answers"),
            ("transformer", "embed.project", "can't be pruned: is the width"),
            ("cnn", "conv1", "unknown layer"),
        ],
    )
    def test_a_layer_that_can_t_be_pruned_is_named_with_the_reason(self, name, layer, words):
        with pytest.raises(SpecError, match=words) as caught:
            applied(name, COMPRESSORS["prune"](ratios={layer: 0.5}))
        assert repr(layer) in str(caught.value)

    def test_a_model_that_names_its_channels_keeps_them(self):
        class Fixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 10)

            def forward(self, x):
                x = self.a(x.flatten(1)).view(-1, 32).relu()
                return self.c(self.b(x).relu())

        prune = COMPRESSORS["prune"]()
        module = prune.apply(Fixed(), work("mlp", made("mlp")))
        assert module.a.out_features == 32 and module.b.out_features == 8
        assert "can't do without" in prune.notes["left"]["a"]

        with pytest.raises(SpecError, match=r"'a': 0.5.*can't be pruned: its code can't do without a part of it"):
            COMPRESSORS["prune"](ratios={"a": 0.5}).apply(Fixed(), work("mlp", made("mlp")))

    @pytest.mark.parametrize(("name", "left"), ODD)
    def test_what_can_t_be_followed_is_left_and_the_rest_pruned_exactly(self, name, left):
        torch.manual_seed(0)
        module = Odd(name).eval()
        x = torch.randn(5, *((5, 8) if name in RECURRENT else (1, 6, 6)))
        for layer in (module.first, module.last):  # half of their channels are of no use
            with torch.no_grad():
                layer.weight[::2], layer.bias[::2] = 0, 0
                layer.weight[1::2] *= 10
        with torch.no_grad():
            before = module(x)
        prune = COMPRESSORS["prune"]()
        after = prune.apply(module, dataclasses.replace(work("mlp", module), example=torch.zeros_like(x[:2]))).eval()
        with torch.no_grad():
            assert torch.allclose(after(x), before, atol=1e-5)
        assert len(after.last.weight) == 8 and (name in RECURRENT or len(after.first.weight) == 4)
        for layer, why in left.items():
            assert why in prune.notes["left"][layer] and layer not in prune.notes["kept"]

    def test_a_model_that_draws_random_numbers_is_pruned_all_the_same(self):
        class Drawing(nn.Sequential):
            def forward(self, x):
                return super().forward(nn.functional.dropout(x))

        module = Drawing(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        assert COMPRESSORS["prune"]().apply(module, work("mlp", module))[1].out_features == 16

    def test_a_model_with_nothing_to_remove_is_refused(self):
        with pytest.raises(SpecError, match=r"nothing that can be removed \(1: gives the model's answers\)"):
            module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            COMPRESSORS["prune"]().apply(module, work("mlp", module))


class TestMask:
    def test_zeros_stay_zero_while_the_rest_trains(self):
        mask = COMPRESSORS["mask"](ratio=0.9)
        module = applied("mlp", mask)
        assert mask.notes["label"] == LABEL == "mask only: no smaller, no faster here"
        assert mask.notes["zeros"] == pytest.approx(0.9, abs=0.01)
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        module(samples("mlp")).square().mean().backward()
        optimizer.step()
        module = mask.finish(module)
        assert (module[1].weight == 0).sum() == round(0.9 * module[1].weight.numel())

    def test_two_of_four_that_are_largest_stay(self):
        before = made("mlp")[1].weight.detach()
        mask = COMPRESSORS["mask"](pattern="2:4")
        after = mask.finish(applied("mlp", mask))[1].weight.detach().view(128, 16, 4)
        assert ((after != 0).sum(-1) == 2).all()
        top = before.view(128, 16, 4).abs().topk(2).values.sum()
        assert after.abs().sum() == pytest.approx(top.item(), rel=1e-5)

    def test_a_shape_that_the_pattern_does_not_divide_is_told(self):
        mask = COMPRESSORS["mask"](pattern="2:4")
        applied("cnn", mask)
        assert mask.notes["left"] == {"0": "2:4 needs inputs that 4 divides, not 9"}

    def test_together_the_ratio_is_of_all_weights_and_no_layer_is_emptied(self):
        module = made("lenet")
        with torch.no_grad():
            module[9].weight *= 1e-3  # of the answers: by size alone all of it would go
        kept = []
        for number in (1, 2):
            mask = COMPRESSORS["mask"](ratio=0.99, scope="global", rounds=2)
            module = mask.finish(mask.apply(module, work("lenet", module, round=number)))
            weights = [layer.weight for _, layer in layers.weighted(module)]
            kept.append([int((weight != 0).sum()) for weight in weights])
        total = sum(weight.numel() for weight in weights)
        assert [sum(counts) for counts in kept] == [total - round(share * 0.99 * total) for share in (7 / 8, 1)]
        assert min(kept[1]) > 0

    def test_weights_are_ranked_by_what_they_are_of_those_that_are_no_smaller(self):
        module = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 3, bias=False))
        with torch.no_grad():
            module[0].weight.copy_(torch.tensor([[3.0, 2.0, 1.0]]))  # 1, 4/13, 1/14
            module[1].weight.copy_(torch.tensor([[0.1], [-0.3], [0.2]]))  # 1/14, 1, 4/13
        mask = COMPRESSORS["mask"](ratio=1 / 3, scope="global")
        module = mask.finish(mask.apply(module, work("mlp", module)))
        assert module[0].weight.tolist() == [[3.0, 2.0, 0.0]]
        assert [round(value, 1) for value in module[1].weight.flatten().tolist()] == [0.0, -0.3, 0.2]


class TestShare:
    def test_few_values_that_train_and_zeros_that_stay(self):
        mask, share = COMPRESSORS["mask"](ratio=0.8), COMPRESSORS["share"](bits=3)
        module = mask.finish(applied("mlp", mask))
        zeros = module[1].weight == 0
        module = share.apply(module, work("mlp", module))
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 0.1)
        before = share.finish(copy.deepcopy(module))[1].weight.detach().clone()
        module(samples("mlp")).square().mean().backward()
        optimizer.step()
        after = share.finish(module)[1].weight.detach()
        assert torch.equal(after == 0, zeros) and not torch.equal(after, before)
        assert len(after.unique()) == len(before.unique()) == 8
        assert torch.equal(after, after.bfloat16().float())  # what a file holds of it

    def test_each_weight_takes_the_value_nearest_to_it(self):
        numbers = torch.tensor([-5.0, -4.9, 1.0, 1.1, 1.2, 7.0])
        values, places, takers = codebooks.nearest(numbers, 3)
        assert torch.allclose(values, torch.tensor([-4.95, 1.1, 7.0]).double())
        assert places.tolist() == [0, 0, 1, 1, 1, 2] and takers.tolist() == [2, 3, 1]

    def test_a_value_that_many_share_moves_as_far_as_one_weight_would(self):
        for count in (1, 100):
            book = codebooks.Codebook(nn.Parameter(torch.full((count,), 2.0)), 4)
            optimizer = torch.optim.Adam(book.parameters(), 0.1)
            before = book()
            before.sum().backward()
            optimizer.step()
            assert (book() - before).norm().item() == pytest.approx(0.1, rel=1e-3)


class TestLowRank:
    def test_all_of_the_energy_is_the_same_function(self):
        module = made("mlp")
        with torch.no_grad():  # of rank 5
            module[1].weight.copy_(torch.randn(128, 5) @ torch.randn(5, 64))
        before, x = copy.deepcopy(module), samples("mlp")
        low = COMPRESSORS["low_rank"](energy=0.999999)
        after = low.apply(module, work("mlp", module))
        assert low.notes["ranks"] == {"1": 5}
        assert torch.allclose(after(x), before(x), atol=1e-4)

    def test_what_was_frozen_stays_so(self):
        module = made("mlp")
        module[1].requires_grad_(False)
        after = COMPRESSORS["low_rank"](rank=0.25).apply(module, work("mlp", module))
        assert not any(p.requires_grad for p in after[1].parameters())
        assert all(p.requires_grad for p in after[3:].parameters())

    def test_a_convolution_becomes_two(self):
        low = COMPRESSORS["low_rank"](rank=0.25)
        after = applied("cnn", low)
        assert [layer.kernel_size for layer in after[3]] == [(3, 3), (1, 1)]
        assert low.notes["ranks"]["3"] == 16

    def test_the_nearest_of_its_rank(self):
        module = made("mlp")
        u, s, v = torch.linalg.svd(module[1].weight.detach())
        wanted = (u[:, :16] * s[:16]) @ v[:16]
        after = COMPRESSORS["low_rank"](rank=0.25).apply(module, work("mlp", module))[1]
        assert torch.allclose(after[1].weight @ after[0].weight, wanted, atol=1e-5)

    def test_a_rank_that_saves_nothing_is_refused(self):
        with pytest.raises(SpecError, match=r"'rank': 0.95.*saves nothing in any layer .*take less"):
            applied("mlp", COMPRESSORS["low_rank"](rank=0.95))


class TestLora:
    def test_at_first_nothing_changes_and_merged_is_the_same(self):
        before, x = made("transformer"), samples("transformer")
        lora = COMPRESSORS["lora"](rank=2)
        module = applied("transformer", lora)
        assert torch.allclose(module(x), before(x), atol=1e-5)
        trained = [p for p in module.parameters() if p.requires_grad]
        assert sum(p.numel() for p in trained) == lora.notes["trained"] < 0.2 * size(before)
        with torch.no_grad():
            for p in trained:
                p.add_(0.1 * torch.randn_like(p))
        adapted = module(x)
        assert not torch.allclose(adapted, before(x), atol=1e-2)
        assert torch.allclose(lora.finish(module)(x), adapted, rtol=1e-3, atol=1e-3)

    def test_convolutions_merge_too(self):
        x, lora = samples("cnn"), COMPRESSORS["lora"](rank=2)
        module = applied("cnn", lora)
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.05 * torch.randn_like(p))
        adapted = module(x)
        assert torch.allclose(lora.finish(module)(x), adapted, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("merge", [True, False])
    def test_what_was_frozen_before_is_frozen_after(self, merge):
        lora, module = COMPRESSORS["lora"](rank=2, merge=merge), made("transformer")
        module.embed.requires_grad_(False)
        module.blocks[0].mlp.up.bias.requires_grad_(False)
        frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
        saved = pickle.dumps(lora.apply(module, work("transformer", module)))  # as a resumed run has it
        after = lora.finish(pickle.loads(saved))
        names = {name.replace(".layer.", ".") for name, p in after.named_parameters() if not p.requires_grad}
        assert names == frozen and len(frozen) == 4

    @pytest.mark.parametrize("kind", ["bert", "gpt2"])
    def test_a_model_of_hugging_face_is_adapted_by_peft(self, kind, monkeypatch):
        monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # peft's merging would leave tqdm's thread
        before = pretrained(kind)
        x, lora = torch.randint(0, 17, (2, 16)), COMPRESSORS["lora"](rank=2)
        module = lora.apply(copy.deepcopy(before), work("mlp", before))
        torch.rand(1)  # as if another rank had drawn more
        again = COMPRESSORS["lora"](rank=2).apply(copy.deepcopy(before), work("mlp", before))
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))  # any rank
        assert torch.allclose(module.eval()(x), before(x), atol=1e-5)
        trained = [p for p in module.parameters() if p.requires_grad]
        assert 0 < sum(p.numel() for p in trained) == lora.notes["trained"] < 0.3 * size(before)
        with torch.no_grad():
            for p in trained:
                p.add_(0.1 * torch.randn_like(p))
        adapted = module(x)
        assert not torch.allclose(adapted, before(x), atol=1e-3)
        merged = lora.finish(module)
        assert torch.allclose(merged(x), adapted, rtol=1e-3, atol=1e-3)
        assert [name for name, _ in merged.named_parameters()] == [name for name, _ in before.named_parameters()]
        assert all(p.requires_grad for p in merged.parameters())


def pretrained(kind):
    """A small model of Hugging Face's with random weights, that answers with logits alone."""
    import transformers as hf

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"vocab_size": 17, "num_labels": 3, "pad_token_id": 0}
            if kind == "bert":
                sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
                self.body = hf.BertForSequenceClassification(hf.BertConfig(**sizes))
            else:  # its layers are of a kind of their own
                sizes |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
                self.body = hf.GPT2ForSequenceClassification(hf.GPT2Config(**sizes))

        def forward(self, x):
            return self.body(input_ids=x).logits

    torch.manual_seed(0)
    return Logits().eval()


class TestDistill:
    def test_the_teacher_alone_pulls_a_student_to_its_answers(self):
        teacher, x = made("mlp"), samples("mlp", 64)
        distill = COMPRESSORS["distill"](student={"model": "mlp", "options": {"hidden": 32}}, labels=False)
        given = work("mlp", teacher, parent=lambda: copy.deepcopy(teacher))
        student = distill.apply(teacher, given)
        objective = distill.objective(student, given)
        optimizer = torch.optim.Adam(student.parameters(), 1e-2)
        wrong = torch.zeros(64, dtype=torch.long)  # never looked at
        losses = []
        for _ in range(60):
            (batch,) = objective.over([Batch(x, wrong, 1.0, len(x))])
            value = objective(student(batch.x), wrong)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        assert losses[-1] < 0.1 * losses[0]
        assert (student(x).argmax(1) == teacher(x).argmax(1)).float().mean() > 0.9
        assert not any(p.requires_grad for p in objective.teacher.parameters())

    def test_it_is_hinton_s_loss(self):
        teacher, x, y = made("mlp"), samples("mlp"), torch.arange(8) % 10
        distill = COMPRESSORS["distill"](temperature=3.0, alpha=0.7)
        given = work("mlp", teacher, parent=lambda: copy.deepcopy(teacher))
        objective = distill.objective(teacher, given)
        objective.batch = Batch(x, None, 1.0, len(x))
        output = 2 * teacher(x)
        p, q = (torch.softmax(scores / 3, 1) for scores in (teacher(x), output))
        soft = 9 * (p * (p / q).log()).sum(1).mean()
        hard = nn.functional.cross_entropy(output, y)
        assert objective(output, y).item() == pytest.approx((0.7 * soft + 0.3 * hard).item(), rel=1e-5)

    def test_features_count_where_asked(self):
        teacher, x, y = made("mlp"), samples("mlp"), torch.arange(8) % 10
        given = work("mlp", teacher, parent=lambda: copy.deepcopy(teacher))
        distill = COMPRESSORS["distill"](student="cnn", features=True)
        student = distill.apply(teacher, given)
        objective = distill.objective(student, given)
        objective.batch = Batch(x, None, 1.0, len(x))
        more = objective(student(x), y)
        objective.features = []
        assert more > objective(student(x), y)

    @pytest.mark.parametrize("cut", [{"world": 2}, {"accumulate": 2}])
    def test_features_of_parts_of_a_batch_are_refused(self, cut):
        chain = [{"distill": {"features": True}}]
        with pytest.raises(SpecError, match="compares all samples of a batch .* take (world|accumulate)=1, or leave"):
            Spec(parent="x", compress=chain, **cut)
        assert Spec(parent="x", compress=chain).compress == chain
        assert Spec(parent="x", compress=["distill"], **cut).compress


class TestQuantize:
    def test_rounded_weights_are_those_of_int8(self):
        weight = torch.randn(4, 9)
        scale = weight.abs().amax(1, keepdim=True) / 127
        assert torch.allclose(rounded(weight), (weight / scale).round() * scale, atol=1e-6)

    def test_layers_to_keep_stay_in_float(self):
        aware = COMPRESSORS["quantize"](aware=True, keep=["4"])
        module = applied("mlp", aware)
        assert type(module[1]).__name__ == "Rounded" and type(module[4]) is nn.Linear
        with pytest.raises(SpecError, match=r"'keep': \['head'\].*unknown layer"):
            applied("mlp", COMPRESSORS["quantize"](keep=["head"]))

    def test_ranges_are_those_of_the_data(self):
        module = applied("mlp", COMPRESSORS["quantize"](aware=True))
        x = samples("mlp", 32)
        assert module[1].low.item() == pytest.approx(x.min().item()) and module[1].high.item() > 0
        close = (module.eval()(x) - made("mlp")(x)).abs().max()
        assert 0 < close < 0.1


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.a, self.last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.b = self.a

    def forward(self, x):
        return self.last(self.b(self.a(self.first(x.flatten(1)).relu()).relu()))


@pytest.mark.parametrize("name", ["mask", "low_rank", "lora", "quantize"])
def test_a_layer_that_is_used_twice_stays_one(name):
    torch.manual_seed(0)
    options = {"aware": True} if name == "quantize" else {}
    compressor, module = COMPRESSORS[name](**options), Twice().eval()
    module = compressor.apply(module, work("mlp", module))
    assert module.a is module.b and type(module.a) is not nn.Linear
    x = samples("mlp")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        learned = module.eval()(x)
        module = compressor.finish(module)
        assert module.a is module.b
        if name != "quantize":
            assert torch.allclose(module(x), learned, atol=1e-4)


class TestModelsThatDoNotSuit:
    def test_a_student_of_other_classes_is_refused(self):
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
        with pytest.raises(SpecError, match=r"'student': .* answers \(10,\) numbers a sample, and its teacher \(12,\)"):
            COMPRESSORS["distill"](student="mlp").apply(teacher, work("mlp", teacher))

    def test_code_that_uses_a_layer_s_parameters_is_told_before(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)

            def forward(self, x):
                return self.b(nn.functional.linear(x.flatten(1), self.a.weight))

        for name in ("low_rank", "mask", "lora"):
            with pytest.raises(SpecError, match=f"compress='{name}': does not suit this model.*no attribute 'weight'"):
                rehearse(Own(), spec([name]), *SHAPES["mlp"])
