"""Layers cut between ranks: what is refused, dropout, replicas, tokens cut too, and the mesh."""

import pytest
import torch
from helpers import until
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError

SMALL = {"width": 32, "depth": 2}
FIELDS = {"dataset": "digits", "model": "transformer", "optimizer": "momentum", "lr": 0.01, "clip": 1.0}
SHORT = {**FIELDS, "batch_size": 128, "epochs": 1}


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")


def finished(**fields):
    run = lab.launch(lab.Spec(**fields))
    assert run.wait(120) == "done", run.failure
    return run


def assert_equal(run, other, tolerance=1e-5):
    for (name, a), b in zip(run.model().state_dict().items(), other.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < tolerance, name


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": "cnn"}, "strategy='tensor': model='cnn' has none of the layers.* take model='transformer', 'gpt'"),
        ({"model": "transformer", "world": 3}, "world=3: .* 4 heads evenly to 3 ranks; take world=2 or world=4"),
        ({"model": "transformer", "world": 8}, "world=8: .* 4 heads evenly to 8 ranks; take world=4"),
        ({"model": "mlp", "options": {"hidden": 5}}, "world=2: .* 5 hidden units evenly .* that 2 divides"),
        ({"model": "mlp", "options": {"sequence_parallel": True}}, "'sequence_parallel': True.* no sequence of tokens"),
        ({"model": "transformer", "optimizer": "muon"}, "optimizer='muon': needs whole matrices"),
        ({"model": "transformer", "precision": "fp16"}, "precision='fp16' with world=.* take precision='bf16'"),
    ],
)
def test_what_can_t_be_cut_is_refused(fields, sentence):
    with pytest.raises(SpecError, match=sentence):
        lab.Spec(strategy="tensor", **{"world": 2, **fields}).check_strategy()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"world": 3},
            "world=3: must be a multiple of options={'tensor': 2}.* take world=2 or world=4, or one of 1, 3",
        ),
        ({"world": 4, "options": {"tensor": 0}}, "options={'tensor': 0}: must be at least 1"),
        ({"world": 6, "options": {"tensor": 3}}, "options={'tensor': 3}: .* 4 heads evenly to 3 ranks; take .*2}"),
        ({"world": 4, "options": {"sequence_parallel": True}}, "unknown option"),
        ({"world": 2, "options": {"tensor": 1}, "optimizer": "muon"}, "optimizer='muon': needs whole matrices"),
        ({"world": 2, "model": "cnn"}, "strategy='fsdp_tensor': model='cnn' has none of the layers"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(fields, sentence):
    with pytest.raises(SpecError, match=sentence):
        lab.Spec(strategy="fsdp_tensor", **{"model": "transformer", **fields}).check_strategy()


def test_one_process_takes_any_model():
    for strategy in ("tensor", "fsdp_tensor"):
        lab.Spec(strategy=strategy, model="cnn").check_strategy()
    lab.Spec(strategy="fsdp_tensor", model="cnn", world=2, options={"tensor": 1}).check_strategy()


@pytest.mark.parametrize("sequence", [pytest.param(False, marks=pytest.mark.slow), True], ids=["", "sequence"])
def test_dropout_and_accumulation_are_those_of_one_process(sequence):
    fields = {**SHORT, "accumulate": 2}
    options = {**SMALL, "dropout": 0.2}
    one = finished(strategy="single", options=options, **fields)
    two = finished(strategy="tensor", world=2, options={**options, "sequence_parallel": sequence}, **fields)
    assert_equal(one, two)


def test_dropout_between_linear_layers_is_that_of_one_process():
    fields = {**SHORT, "model": "mlp", "options": {"dropout": 0.2}}
    assert_equal(finished(strategy="single", **fields), finished(strategy="tensor", world=2, **fields))


def test_a_tied_head_and_embedding_stay_one():
    fields = {**SHORT, "model": "gpt", "dataset": "pydocs"}
    x = torch.randint(50, (256, 17), generator=torch.Generator().manual_seed(0))

    def tied(shape, classes, vocabulary):
        from lepton_lab.models import MODELS

        return MODELS["gpt"](shape, classes, vocabulary, width=32, depth=2, tied=True)

    runs = []
    for strategy, world in (("single", 1), ("tensor", 2), ("fsdp_tensor", 2)):
        spec = lab.Spec(strategy=strategy, world=world, **fields)
        runs.append(lab.launch(spec, model=tied, data=((x[:, :16], x[:, 1:]), (x[:8, :16], x[:8, 1:]))))
        assert runs[-1].wait(120) == "done", runs[-1].failure
    for run in runs[1:]:
        assert_equal(runs[0], run)
        assert torch.equal(run.model().head.out.weight, run.model().embed.tokens.weight)


@pytest.mark.slow  # bf16 of other strategies is in their files
@pytest.mark.parametrize("strategy", ["tensor", pytest.param("fsdp_tensor", marks=pytest.mark.slow)])
def test_bf16_learns(strategy):
    run = finished(strategy=strategy, world=2, precision="bf16", options=SMALL, **{**SHORT, "epochs": 2})
    losses = [row["loss"] for row in run.rows("eval") if row["split"] == "train"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("strategy", [pytest.param("tensor", marks=pytest.mark.slow), "fsdp_tensor"])
def test_what_every_rank_holds_stays_the_same_to_the_bit(strategy, tmp_path):
    folder = str(tmp_path)

    def told(shape, classes):
        """A transformer that notes at each step what its rank holds of the layers that are not cut."""
        import hashlib
        from pathlib import Path

        from torch.distributed import get_rank

        from lepton_lab.models import MODELS

        model = MODELS["transformer"](shape, classes, width=32, depth=2, dropout=0.2)

        def cut(p):
            dimensions = 2 if strategy == "fsdp_tensor" else 1  # the last one is the tensor group's
            split = hasattr(p, "placements") and p.device_mesh.ndim == dimensions
            return split and not p.placements[-1].is_replicate()

        def note(module, inputs):
            if module.training:
                held = [p for p in module.parameters() if not cut(p)]
                held = [p.to_local() if hasattr(p, "placements") else p for p in held]
                bits = b"".join(p.detach().clone().numpy().tobytes() for p in held)
                with Path(folder, str(get_rank())).open("a") as file:
                    file.write(f"{len(held)} {hashlib.sha256(bits).hexdigest()}\n")

        model.register_forward_pre_hook(note)
        return model

    run = lab.launch(lab.Spec(strategy=strategy, world=2, **SHORT), model=told)
    assert run.wait(120) == "done", run.failure
    first, second = ((tmp_path / str(rank)).read_text().splitlines() for rank in range(2))
    assert first == second and len(set(first)) > 5
    assert {int(line.split()[0]) for line in first} == {19}  # embedding, norms, biases behind a sum, head


class Convolutional(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))

    def forward(self, x):
        return self.layers(x)


class Odd(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 15), nn.Tanh(), nn.Linear(15, classes))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (Convolutional, {}, "strategy='tensor': model='cell:Convolutional' has no layers"),
        (Odd, {}, "deals 15 units evenly to 2 ranks"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)),
            {"sequence_parallel": True},
            "nn.Sequential of Blocks",
        ),
    ],
    ids=["convolutional", "odd", "no_blocks"],
)
def test_a_user_s_model_that_can_t_be_cut_is_refused_by_the_same_sentence(model, options, sentence):
    with pytest.raises(SpecError, match=sentence):
        lab.launch(lab.Spec(strategy="tensor", world=2, options=options, **SHORT), model=model)
    assert not lab.runs()


class Picky(nn.Sequential):
    """A model that can't be made without memory, so that only a rank can tell that it can't be cut."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Conv1d(1, 1, 1), nn.Linear(64, 10))
        self.scale = self[2].weight.abs().max().item()


def test_a_model_that_only_a_rank_can_make_is_refused_there():
    run = lab.launch(lab.Spec(strategy="tensor", world=2, **SHORT), model=Picky)
    assert run.wait(60) == "failed"
    assert run.failure.type == "SpecError" and "has no layers that it can cut" in run.failure.message


class Mixed(nn.Module):
    """A user's own: a convolution, blocks of the lab, and a norm with statistics."""

    def __init__(self, classes):
        super().__init__()
        from lepton_lab.models.blocks import Block

        self.patches = nn.Conv2d(1, 16, 2, stride=2)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList(Block(16, 2, 0.1, causal=False) for _ in range(2))
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = self.norm(self.patches(x)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("strategy", ["tensor", pytest.param("fsdp_tensor", marks=pytest.mark.slow)])
def test_a_user_s_model_made_of_our_blocks_is_cut(strategy):
    runs = []
    for name, world in (("single", 1), (strategy, 2)):
        runs.append(lab.launch(lab.Spec(strategy=name, world=world, **SHORT), model=Mixed))
        assert runs[-1].wait(120) == "done", runs[-1].failure
    assert_equal(*runs)


def test_tokens_that_can_t_be_cut_evenly_are_refused():
    x, y = torch.randn(64, 1, 10, 10), torch.randint(10, (64,))  # 25 patches
    spec = lab.Spec(strategy="tensor", world=2, options={"sequence_parallel": True}, **SHORT)
    with pytest.raises(SpecError, match="25 tokens can't be cut evenly between 2 ranks"):
        lab.launch(spec, data=((x, y), (x, y)))


def test_without_a_split_the_mesh_is_plain_sharding():
    fields = {**SHORT, "model": "cnn"}
    two = finished(strategy="fsdp_tensor", world=2, options={"tensor": 1}, **fields)
    assert two.facts["parts"] == 2
    assert_equal(finished(strategy="single", **fields), two)


@pytest.mark.slow
def test_a_mesh_of_two_by_two_goes_on_as_one_by_four():
    fields = {**FIELDS, "batch_size": 64, "epochs": 4, "lr": 0.001, "checkpoint_every": 0}
    one = finished(strategy="single", options=SMALL, **fields)
    run = lab.launch(lab.Spec(strategy="fsdp_tensor", world=4, options=SMALL, **fields))
    until(lambda: len(run.rows("train")) > 8)
    run.stop()
    assert run.wait(60) == "stopped", run.failure
    assert run.facts["parts"] == 2
    run.resume(options={"tensor": 4})
    assert run.wait(240) == "done", run.failure
    assert run.facts["parts"] == 1
    assert_equal(one, run)
    for a, b in zip(one.rows("eval"), run.rows("eval"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["tensor", "fsdp_tensor"])
def test_a_compiled_model_computes_the_same(compiler, strategy):
    one = finished(strategy="single", options=SMALL, **SHORT)
    run = lab.launch(lab.Spec(strategy=strategy, world=2, compile=True, options=SMALL, **SHORT))
    assert run.wait(800) == "done", run.failure
    assert_equal(one, run)
