"""Runs that compress: link after link under the strategies, through stops and kills, with the parent left as it is."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from helpers import PLAIN, SHAPES, WHOLE, call, numbered, ranks_of, until
from safetensors.numpy import load as weights_of
from torch import nn

import lepton_lab as lab
from benchmarks import records
from benchmarks.processes import image_data
from lepton_lab.artifacts import coding
from lepton_lab.compressors import COMPRESSORS
from lepton_lab.engine.baseline import digest
from lepton_lab.errors import SpecError
from lepton_lab.files import read_json
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.trained import peers
from lepton_lab.strategies import STRATEGIES

SMALL = {"transformer": {"width": 32, "depth": 2}, "gpt": {"width": 32, "depth": 2}, "mlp": {"hidden": 32}}
LINKS = {"low_rank": {"rank": 0.2}, "quantize": {"aware": True}}


@pytest.fixture
def parent(tiny, once):
    """A trained MLP on the digits."""
    return once(trained, tiny.replace(lr=3e-3, seed=1))


def trained(spec, **parts):
    run = lab.launch(spec, **parts)
    assert run.wait(120) == "done", run.failure
    return run


def compressed(parent, chain, **changes):
    run = lab.compress(parent, chain, **{"epochs": 1, **changes})
    assert run.wait(120) == "done", run.failure
    return run


def notes(run, word):
    return [row for row in run.rows("note") if word in row.get("text", "")]


def size(run):
    return sum(p.numel() for p in run.model().parameters())


def weights(run):
    return run.model().state_dict()


def same(a, b, tolerance=0.0):
    assert a.keys() == b.keys()
    return all(torch.allclose(a[name], b[name], rtol=0, atol=tolerance) for name in a)


def files(run):
    return {str(p): p.stat().st_mtime_ns for p in run.folder.rglob("*") if p.is_file()}


def test_a_chain_under_ddp_ends_in_a_file_and_leaves_the_parent_as_it_is(parent):
    before = files(parent)
    chain = [("prune", 0.5), ("distill", {"temperature": 2.0}), ("quantize", "int8")]
    child = compressed(parent, chain, world=2, strategy="ddp", epochs=2)
    assert files(parent) == before
    names = [next(iter(link)) for link in child.spec.compress]
    assert child.spec.parent == parent.id and names == ["prune", "distill", "quantize"]
    assert size(child) < 0.6 * size(parent)
    begins = {row["link"]: row for row in notes(child, "begins")}
    assert begins["prune"]["parameters_before"] == size(parent) and begins["prune"]["parameters"] == size(child)
    assert [row["link"] for row in notes(child, ": done")] == [*names, "control"]
    steps = sorted({row["step"] for row in child.rows("train")})
    assert steps == list(range(1, 49)) and {row["rank"] for row in child.rows("train")} == {0, 1}
    assert child.facts["steps"] == child.summary()["step"] == 48
    file = lab.load(child.folder / "artifact.lepton")
    told = read_json(child.folder / "measures.json")
    assert told["artifact"]["bytes"] == (child.folder / "artifact.lepton").stat().st_size
    assert file.manifest["parent"] == parent.id and file.manifest["scheme"] == "int8_static"
    assert told["artifact"]["accuracy"] > 0.8 and told["control"]["test"]["accuracy"] > 0.8
    assert told["dense"]["parameters"] == size(parent)
    peers = [peer["name"] for peer in told["artifact"]["peers"]]
    assert {"dense, eager", "dense under ONNX Runtime", "dense, trained on as long"} <= set(peers)
    assert any(row.get("method") == "fork" for row in child.rows("note")), "what a chain imports started a thread"


def normed():
    """A model whose weights are computed: as parametrizations do it, and by hooks, as before."""
    new, old = nn.utils.parametrizations, nn.utils.weight_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the old one is old
        first, last = new.weight_norm(nn.Linear(64, 32)), old(nn.Linear(32, 10))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), new.spectral_norm(nn.Linear(32, 32)), nn.ReLU(), last)


@pytest.mark.slow
def test_a_model_with_parametrized_weights_is_exported_and_compressed(tmp_path):
    x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    parent = trained(lab.Spec(epochs=1, batch_size=32), model=normed, data=((x, y), (x, y), (x, y)))
    with torch.no_grad():
        scores = parent.model()(x)
    lab.export(parent, tmp_path / "m.lepton")
    assert (lab.load(tmp_path / "m.lepton")(x) - scores).abs().max() < 1e-4
    assert lab.estimate(parent, [("prune", 0.5)]).parameters < sum(p.numel() for p in parent.model().parameters())
    child = compressed(parent, [("prune", 0.5), ("quantize", "int8_weights")], epochs=1)
    assert not any(hasattr(layer, "parametrizations") for layer in child.model().modules())
    assert [row["text"].split(":")[0] for row in notes(child, "parametrized")] == [
        "weights of 1, 3, 5 were parametrized, as by weight norm"
    ]
    with torch.no_grad():
        dense = peers(RunFolder(child.folder))[0](x)
    assert (dense - scores).abs().max() < 1e-5
    assert (lab.load(child.folder / "artifact.lepton")(x) - child.model()(x)).abs().max() < 0.1


def taught(model, epochs=1):
    """A run of a model of the table on 64 samples of its kind, and these."""
    shape, classes, vocabulary = SHAPES[model]
    g = torch.Generator().manual_seed(0)
    if vocabulary:
        x = torch.randint(vocabulary, (64, *shape), generator=g)
        y = x.roll(-1, 1)
        x[0, 0], y[0, 0] = vocabulary - 1, classes - 1
    else:
        x, y = torch.randint(256, (64, *shape), dtype=torch.uint8, generator=g), torch.arange(64) % classes
    spec = lab.Spec(model=model, options=SMALL.get(model, {}), epochs=epochs, batch_size=16, optimizer="sgd")
    return trained(spec, data=((x, y), (x[:16], y[:16]), (x[:16], y[:16]))), x


def answers(run, x):
    """Scores of a run's module, and of its file."""
    file = lab.load(run.folder / "artifact.lepton")
    assert run.model()(x[:2].long() if file.manifest["input"]["dtype"] == "int64" else x[:2].float()).shape[0] == 2
    return file(x[:2])


@pytest.mark.slow
@pytest.mark.parametrize("model", SHAPES)
def test_every_model_goes_through_all_compressors(model):
    parent, x = taught(model)
    chain = [("lora", {"rank": 2}), ("prune", 0.5), "distill", ("low_rank", 0.2), "mask", "quantize"]
    run = compressed(parent, [link for link in chain if model not in WHOLE or link[0] != "prune"])
    assert size(run) < 0.6 * size(parent)
    assert answers(run, x).shape[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("model", SHAPES)
def test_every_compressor_on_every_model(model, compressor):
    parent, x = taught(model)
    if model in WHOLE and compressor == "prune":
        with pytest.raises(SpecError, match="nothing that can be removed"):
            lab.compress(parent, [compressor])
        return
    run = compressed(parent, [(compressor, LINKS.get(compressor, {}))])
    assert (size(run) < size(parent)) == (compressor in ("prune", "low_rank"))
    assert answers(run, x).shape[0] == 2


ABLE = [name for name, strategy in STRATEGIES.items() if strategy.trains_any_module]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ABLE)
def test_every_strategy_that_is_not_refused_trains_a_chain(parent, strategy):
    world = 1 if strategy == "single" else 2
    chain = [("prune", 0.5), ("low_rank", 0.3), ("lora", {"rank": 2}), ("mask", 0.5)]
    fields = {"optimizer": "momentum", "lr": 0.02, "epochs": 2}
    run = compressed(parent, chain, strategy=strategy, world=world, **fields)
    assert (run.model()[1][0].weight == 0).float().mean() > 0.49
    assert run.summary()["test_accuracy"] > 0.7
    if strategy in ("zero", "fsdp", "hybrid"):
        alone = compressed(parent, chain, strategy="ddp", world=1, **fields)
        assert same(weights(run), weights(alone), 1e-3)


LONG = [("prune", 0.25), ("distill", {"epochs": 20}), ("mask", {"epochs": 1})]


def second_link(parent, **changes):
    """A run that is in its second link, past a checkpoint."""
    run = lab.compress(parent, LONG, world=2, strategy="ddp", epochs=1, **changes)
    until(lambda: any(row["epoch"] >= 4 for row in run.rows("eval")))
    return run


def test_a_stop_in_mid_chain_goes_on_where_it_was(parent):
    whole = lab.compress(parent, LONG, world=2, strategy="ddp", epochs=1)
    assert whole.wait(120) == "done"
    run = second_link(parent)
    run.stop()
    assert run.wait(60) == "stopped"
    finished, stopped = files(run), run.model()
    assert size(run) == size(whole) and not stopped.training
    run.resume()
    assert run.wait(120) == "done", run.failure
    links = run.folder / "links"
    for name in ("parent.pt", "0/begun.pt", "0/done.pt", "1/begun.pt"):
        assert finished[str(links / name)] == (links / name).stat().st_mtime_ns  # never made again
    assert same(weights(run), weights(whole))
    for rank in (0, 1):
        steps = [row["step"] for row in run.rows("train") if row["rank"] == rank]
        assert steps == list(range(1, 22 * 12 + 1))


def test_a_rank_that_is_killed_leaves_finished_links_and_the_run_goes_on(parent):
    before = files(parent)
    run = second_link(parent)
    os.kill(numbered(ranks_of(run))[1].pid, signal.SIGKILL)
    assert run.wait(60) == "failed" and run.failure.rank == 1
    done = run.folder / "links" / "0" / "done.pt"
    stamp = done.stat().st_mtime_ns
    assert files(parent) == before and size(run) < size(parent)
    run.resume(world=1)  # over another number of ranks
    assert run.wait(120) == "done", run.failure
    assert done.stat().st_mtime_ns == stamp
    assert len(notes(run, "distill: begins")) == 1
    assert (run.folder / "artifact.lepton").exists()


@pytest.mark.slow
def test_gradual_pruning_resumes_between_rounds(parent):
    chain = [("prune", {"ratio": 0.5, "rounds": 3, "epochs": 12})]
    whole = compressed(parent, chain)
    run = lab.compress(parent, chain, epochs=1)
    until(lambda: any(row["epoch"] >= 5 for row in run.rows("eval")))
    run.stop()
    run.wait(60)
    if run.state == "stopped":
        run.resume()
    assert run.wait(60) == "done"
    assert [row["round"] for row in notes(run, "prune: done")] == [1, 2, 3]
    counts = [row["parameters"] for row in notes(run, "prune: begins")]
    assert counts == sorted(counts, reverse=True) and counts[-1] == size(run) == size(whole)
    assert same(weights(run), weights(whole), 1e-6)


@pytest.mark.slow  # the next asks for the same of a parent that went on
def test_the_dense_control_is_made_once_for_equal_settings(parent):
    first = compressed(parent, [("prune", 0.5)])
    told = read_json(first.folder / "links" / "control" / "done.json")
    again = trained(parent.spec.replace(epochs=1), model=parent.model())
    assert told["test"]["accuracy"] == pytest.approx(again.summary()["test_accuracy"], abs=0.03)
    second = compressed(parent, [("prune", 0.25)])
    assert notes(second, "dense control: taken from run")[0]["test"] == told["test"]
    third = compressed(parent, [("prune", 0.25)], lr=1e-4)
    assert notes(third, "dense control: trains")
    x, y = digits()[0]
    other = compressed(parent, [("prune", 0.25)], data=((x[600:], y[600:]), digits()[1]))
    assert notes(other, "dense control: trains")


@pytest.mark.slow
def test_a_control_of_a_parent_that_went_on_is_made_anew(parent):
    first = compressed(parent, [("prune", 0.5)])
    assert notes(first, "dense control: trains")
    key = first.folder / "links" / "control" / "key.json"
    module = parent.model()
    with torch.no_grad():
        module[-1].bias.add_(1)
    told = json.loads(key.read_text())
    assert told["weights"] == digest(parent.model()) != digest(module)
    key.write_text(json.dumps(told | {"weights": digest(module)}))  # as of a parent that was resumed since
    assert notes(compressed(parent, [("prune", 0.5)]), "dense control: trains")


def test_a_student_takes_the_place_of_its_teacher(parent):
    student = {"model": "mlp", "options": {"hidden": 8}}
    run = compressed(parent, [("distill", {"student": student, "features": True}), "quantize"], epochs=4, lr=0.02)
    assert size(run) == 64 * 8 + 8 + 8 * 10 + 10
    assert run.summary()["test_accuracy"] > 0.5


def test_a_teacher_stays_for_the_pruned_net_whose_file_has_its_weights_bit_for_bit(parent):
    student = {"model": "mlp", "options": {"hidden": 64}}
    taught = ("distill", {"student": student, "labels": False, "stays": True})
    chain = [taught, ("mask", {"ratio": 0.8, "scope": "global", "rounds": 2}), ("share", 3)]
    run = compressed(parent, chain, epochs=2, lr=0.01)
    assert run.summary()["test_accuracy"] > 0.8
    assert notes(run, "dense control: the parent as it is, since labels are not to be looked at")
    path = run.folder / "artifact.lepton"
    assert path.stat().st_size < 0.3 * 4 * size(run) and lab.load(path).manifest["format"] == 4
    stored = coding.unpack(weights_of(zipfile.ZipFile(path).read("weights.safetensors"))["coded"])
    stored = {array.tobytes() for array in stored.values()}
    assert {p.numpy().tobytes() for p in weights(run).values()} <= stored
    layer = weights(run)["1.weight"]
    assert len(layer.unique()) <= 8 and (layer == 0).float().mean() > 0.7
    x = torch.rand(5, 1, 8, 8)
    assert (lab.load(path).runtime, run.spec.compress[-1]) == ("torch", {"share": {"bits": 3}})
    assert lab.load(path)(255 * x.byte()).shape == (5, 10)


@pytest.mark.slow
@pytest.mark.timeout(600)  # four minutes beside other work
@pytest.mark.skipif(image_data() != "mnist", reason="MNIST's files are not in the data root")
def test_lenets_are_files_of_a_hundredth_after_a_few_epochs():
    """The full chains, of `python -m benchmarks --only records`, make fewer errors."""
    errors = {"LeNet-300-100": 4, "LeNet-5": 3}
    for name, run in records.trained(0, quick=True).items():
        smaller, fewer, wrong = records.smallest(run)
        assert smaller > records.AIMS[name][0] and fewer > 30 and wrong < errors[name], name


def test_unlabelled_samples_teach_what_the_parent_answers(parent):
    (x, _), (x_test, y_test) = digits()
    data = ((x, None), (x_test, y_test), (x_test, y_test))
    told = [("distill", {"student": "mlp", "labels": False})]
    run = compressed(parent, told, data=data, epochs=3)
    assert run.spec.dataset.startswith("cell:") and run.summary()["test_accuracy"] > 0.7
    told = lab.load(run.folder / "artifact.lepton").manifest["preprocessing"]
    assert told["mean"] == pytest.approx(parent.facts["mean"]) and told["mean"] != [0.0]  # scaled as the parent's were
    control = read_json(run.folder / "measures.json")["control"]["test"]["accuracy"]
    assert control == parent.summary()["test_accuracy"]  # which no training on what are no labels has spoilt


@pytest.mark.parametrize(
    ("chain", "parts", "sentence"),
    [
        ([("distill", {"labels": False})], 2, "data: train has no labels: give ((x, None), val, test)"),
        (["distill"], 3, "data: train has no labels, and 'distill' trains with them"),
        ([("prune", 0.5), ("distill", {"labels": False})], 3, "train has no labels, and 'prune' trains with them"),
    ],
)
def test_samples_without_labels_are_refused_where_some_are_needed(parent, chain, parts, sentence):
    (x, _), test = digits()
    with pytest.raises(SpecError, match=re.escape(sentence)):
        lab.compress(parent, chain, data=((x, None), test, test)[:parts])


def test_lora_learns_other_labels_and_is_merged(parent):
    (x, y), test = digits()
    data = ((x, 9 - y), (test[0], 9 - test[1]))
    run = compressed(parent, [("lora", {"rank": 4})], data=data, epochs=8, lr=0.02)
    assert size(run) == size(parent) and run.summary()["test_accuracy"] > 0.7
    assert run.summary()["chain"] == "lora 4"  # what a list of runs says of it
    assert lab.repeat(run, seed=3).wait(60) == "done"  # with the data that were shipped


def digits():
    data = lab.spec.table("dataset")["digits"](None, 1)  # as the parent has them
    return data.train, data.test


@pytest.mark.slow
def test_a_child_of_a_child(parent):
    first = compressed(parent, [("prune", 0.5)])
    second = compressed(first, [("low_rank", 0.25)])
    assert size(second) < size(first) < size(parent)
    assert second.spec.parent == first.id


@pytest.mark.slow  # a view after a convolution, in test_user_models, is such a model too
def test_what_a_notebook_defined_is_compressed_too(home):
    code = """
import torch, lepton_lab as lab
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(64, 48), torch.nn.Linear(48, 10)
    def forward(self, x):
        return self.b(self.a(x.flatten(1)).relu())
run = lab.launch(lab.Spec(epochs=1), model=Net)
assert run.wait(60) == "done", run.failure
child = lab.compress(run, [("prune", 0.5), "lora"], epochs=1)
assert child.wait(60) == "done", child.failure
print(child.model().a.out_features, child.id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("24 "), done.stderr
    found = lab.load(lab.attach().folder / "artifact.lepton")
    assert found(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape == (3, 10)


def test_a_parent_that_is_gone_is_not_missed(parent):
    import shutil

    run = lab.launch(parent.spec.replace(parent=parent.id[:-1], compress="prune", epochs=1))
    assert run.spec.parent == parent.id  # not what was typed
    shutil.rmtree(parent.folder)
    assert run.wait(60) == "done", run.failure


class TestRefusals:
    @pytest.mark.parametrize(
        ("chain", "changes", "words"),
        [
            ([("low_rank", 0.95)], {}, ["saves nothing in any layer", "1: rank"]),
            ([("prune", {"ratios": {"4": 0.5}})], {}, ["'4': 0.5", "can't be pruned", "the model's answers"]),
            ([("prune", {"ratios": {"fc": 0.5}})], {}, ["unknown layer", "known: 1"]),
            (["prune", ("quantize", {"keep": ["fc"]})], {}, ["'keep': ['fc']", "unknown layer"]),
            (["prune"], {"model": "cnn"}, ["model='cnn'", "leave it out"]),
            (["prune"], {"strategy": "tensor", "world": 2}, ["strategy='tensor'", "ddp"]),
            (["prune"], {"epoch": 3}, ["did you mean 'epochs'"]),
            (["prune"], {"data": (torch.zeros(20, 5), torch.zeros(20).long())}, ["(1, 8, 8), not (5,)"]),
            (
                [("distill", {})],
                {"data": (torch.zeros(20, 1, 8, 8), torch.arange(20) % 3)},
                ["10 classes apart", "the data have 3"],
            ),
        ],
    )
    def test_what_can_be_known_before_is_said_before(self, parent, chain, changes, words, home):
        with pytest.raises(lab.LabError) as caught:
            lab.compress(parent, chain, **changes)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)
        assert len(lab.runs()) == 1 and len(list((home / "runs").iterdir())) == 1

    def test_a_parent_that_is_none(self, endless):
        with pytest.raises(lab.LabError, match="'20200101-000000-0000' does not exist"):
            lab.compress("20200101-000000-0000", ["prune"])
        fresh = lab.launch(endless)
        with pytest.raises(lab.LabError, match="no checkpoint yet"):
            lab.compress(fresh, ["prune"], world=1, epochs=1)
        fresh.stop()
        fresh.wait(30)

    def test_data_of_a_table_that_do_not_fit_fail_in_a_sentence_before_any_link(self, parent):
        run = lab.compress(parent, ["prune"], dataset="blobs", epochs=1)
        assert run.wait(60) == "failed"
        assert run.failure.message.startswith("dataset='blobs': run") and "(1, 8, 8)" in run.failure.message
        assert not (run.folder / "links" / "0").exists()


def test_the_command_line_compresses_the_latest_run(parent):
    out, _ = call("compress", "prune:0.5", "mask:pattern=2:4", "--epochs", "1", "--json")
    made = json.loads(out)
    assert made["spec"]["parent"] == parent.id
    assert made["spec"]["compress"] == [{"prune": {"ratio": 0.5}}, {"mask": {"pattern": "2:4"}}]
    child = lab.attach(made["id"])
    assert child.command.startswith("lepton-lab run --model mlp")
    import shlex

    out, _ = call(*shlex.split(child.command)[1:], "--detach")
    again = lab.attach(out.strip())
    assert again.wait(60) == "done" and again.spec == child.spec and same(weights(again), weights(child))
    _, err = call("compress", "--parent", parent.id, "prun:0.5", code=2)
    assert "did you mean 'prune'" in err
    _, err = call("compress", "prune:ratio=0.5,2", code=2)
    assert "NAME:KEY=VALUE" in err


def test_the_models_of_the_table_are_the_ones_that_are_tested():
    assert set(SHAPES) == set(PLAIN)
