"""Artifacts: every model in every scheme, in a process that never saw its code; files that are not what they say."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import PLAIN
from onnx import helper
from safetensors.numpy import load as read_weights
from safetensors.numpy import save as weights_of
from torch import nn

import lepton_lab as lab
from lepton_lab.artifacts import About, container, onnx_graph, write
from lepton_lab.artifacts.preparing import Prepared, traced
from lepton_lab.artifacts.schemes import SCHEMES, grow, shrink
from lepton_lab.models import MODELS
from lepton_lab.store.folder import RunFolder

DIGITS = [str(i) for i in range(10)]
IMAGES = {"shape": (1, 28, 28), "dtype": "uint8", "labels": DIGITS, "mean": (0.1307,), "std": (0.3081,)}
TEXTS = {"shape": (16,), "dtype": "int64", "labels": [chr(65 + i) for i in range(30)], "vocabulary": 30}
WAYS = [(scheme, runtime) for scheme, told in SCHEMES.items() for runtime in told.runtimes]
# Largest difference of a score from the module's own, of the largest score.
TOLERANCE = {
    "fp32": 1e-5,
    "bf16": 0.03,
    "int8_static": 0.08,
    "int8_dynamic": 0.08,
    "int8_weights": 0.05,
    "shared": 1e-5,
}
BATCHES = (1, 2, 5)
EVERY = [(name, *way) for name in [*PLAIN, "own"] for way in WAYS]
# A model of all kinds of layers in every way, one of pixels and one of tokens in some; the slow set has the rest.
SOON = {(name, *way) for name, *way in EVERY if name == "own"}
SOON |= {(name, *way) for name in ("mlp", "gpt") for way in (("fp32", "onnxruntime"), ("bf16", "torch"))}
SOON |= {("mlp", "int8_static", "onnxruntime"), ("gpt", "int8_dynamic", "onnxruntime")}
SIZED = [("fp32", "onnxruntime"), ("bf16", "torch"), ("int8_static", "onnxruntime")]
LATER = [name for name in PLAIN if (name, "bf16", "torch") not in SOON]

FRESH = """
import json, sys
import numpy as np
from lepton_lab.artifacts import load

class Nothing:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith(("lepton_lab.models", "test_")), f"{name} was imported"

sys.meta_path.insert(0, Nothing())
paths = json.loads(sys.stdin.read())
for path in paths:  # once, so that what the libraries import late is there
    artifact = load(path)
    artifact(artifact.made_up(1))
armed = True

def watch(event, arguments):
    if armed and event in ("exec", "compile", "pickle.find_class", "os.system", "subprocess.Popen"):
        raise AssertionError(f"loading does {event} {arguments}")

sys.addaudithook(watch)
scores = {}
for path in paths:
    artifact = load(path)
    for batch in BATCHES:
        scores[f"{path}:{batch}"] = artifact(artifact.made_up(batch)).copy()
armed = False
assert not any(name.startswith(("lepton_lab.models", "test_")) for name in sys.modules)
np.savez(sys.argv[1], **scores)
""".replace("BATCHES", str(BATCHES))


class Own(nn.Module):
    """What a user may define in a cell: norms, shortcuts, attention, in-place operators, a constant, shapes."""

    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.side = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        x = self.before(x)
        x = nn.functional.max_pool2d(x + self.side(x).relu_(), 2)
        B = x.shape[0]
        x = x.reshape(B, 16, -1).transpose(1, 2)  # (B, T, 16)
        seen, _ = self.attention(x, x, x)
        return self.out((x + seen * torch.tensor(0.5)).mean(1)).view(B * 2, -1).view(B, -1)


def model_of(name):
    """A model of the table or our own, and what its samples are."""
    torch.manual_seed(0)
    if name == "own":
        colours = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
        model = Own()
        model.train()(torch.randn(8, 3, 8, 8))  # running figures of the norm
        return model, About("own", (3, 8, 8), "uint8", DIGITS[:4], **colours)
    if name == "gpt":
        return MODELS[name]((16,), 30, 30, width=32, depth=2), About(name, **TEXTS)
    options = {"width": 32, "depth": 2} if name == "transformer" else {}
    return MODELS[name]((1, 28, 28), 10, **options), About(name, **IMAGES)


def make(path, name, scheme="fp32", runtime="", **more):
    model, about = model_of(name)
    return write(path, model, about, scheme, calibration=about.samples(32), runtime=runtime, **more)


# The slow set asks for some seventy artifacts, which the first test makes.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def everything(request, tmp_path_factory):
    """Models in every scheme and runtime that is asked for, and the scores of each as a fresh process computed them."""
    folder = tmp_path_factory.mktemp("artifacts")
    params = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    asked = [values.get("way") or (values.get("name"), *way) for values in params for way in SIZED]
    made, once = {}, functools.cache(onnx_graph.from_program)
    with pytest.MonkeyPatch.context() as patch:
        for name in [*PLAIN, "own"]:  # the same graph for all schemes: exporting is what takes time
            ways = [way[1:] for way in EVERY if way[0] == name and (way in SOON or way in asked)]
            if not ways:
                continue
            program = traced(Prepared(*model_of(name)), model_of(name)[1])
            patch.setattr(onnx_graph, "from_program", lambda _, m, names, outputs, p=program: copy.deepcopy(once(p, m)))
            for scheme, runtime in ways:
                path = folder / f"{name}-{scheme}-{runtime}.lepton"
                made[name, scheme, runtime] = make(path, name, scheme, runtime).path
    out = folder / "scores.npz"
    fresh(FRESH, str(out), given=json.dumps([str(path) for path in made.values()]))
    return made, dict(np.load(out))


def fresh(script, *words, given=""):
    """Run a script in a process that has our library and nothing of this one's."""
    room = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", script, *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=room, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small_ones(tmp_path_factory):
    """Function that gives the path of a small artifact; each is made once."""
    folder = tmp_path_factory.mktemp("small")
    about = About("mlp", (6,), "float32", ["a", "b", "c"])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))

    @functools.cache
    def made(runtime, scheme):
        path = folder / f"{runtime}-{scheme}.lepton"
        return write(path, model, about, scheme, about.samples(8), runtime=runtime).path

    return made


@pytest.fixture
def small(small_ones, tmp_path):
    """Function that gives a small artifact of a runtime, in a file that the test may change."""

    def small(runtime="torch", scheme="fp32"):
        return lab.load(shutil.copy(small_ones(runtime, scheme), tmp_path / f"{runtime}.lepton"))

    return small


@pytest.mark.parametrize(
    "way", [way if way in SOON else pytest.param(way, marks=pytest.mark.slow) for way in EVERY], ids="-".join
)
def test_conformance_equals_the_module_in_a_fresh_process(everything, way):
    made, scores = everything
    name, scheme, _ = way
    path = made[way]
    model, about = model_of(name)
    plain = Prepared(model, about)
    for batch in BATCHES:
        expected = plain(about.samples(batch)).numpy()
        got = scores[f"{path}:{batch}"]
        assert got.shape == expected.shape and got.dtype == np.float32
        assert abs(got - expected).max() <= TOLERANCE[scheme] * abs(expected).max(), batch


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LATER)) for name in [*PLAIN, "own"]]
)
def test_sizes_are_those_of_the_numbers(everything, name):
    made, _ = everything
    model, _ = model_of(name)
    numbers = sum(p.numel() for p in model.parameters())
    size = {way: made[name, *way].stat().st_size for way in WAYS if (name, *way) in made}
    assert size["fp32", "onnxruntime"] < 4 * numbers + 40_000 / 4 + 400 * len(model.state_dict())
    assert size["bf16", "torch"] < 2 * numbers + 5_000 + 300 * len(model.state_dict())
    if name in ("mlp", "mnist_cnn"):
        assert size["fp32", "onnxruntime"] / size["int8_static", "onnxruntime"] > 3.5


@pytest.mark.slow
def test_what_surrounds_the_weights_takes_two_kilobytes(tmp_path):
    model = MODELS["mnist_cnn"]((1, 28, 28), 10, hidden=16)
    about = About("mnist_cnn", **IMAGES)
    artifact = write(tmp_path / "a.lepton", model, about, "int8_static", about.samples(32))
    numbers = sum(p.numel() for p in model.parameters())
    assert artifact.bytes < numbers + 4000
    with zipfile.ZipFile(artifact.path) as file:
        packed = {info.filename: info.compress_size for info in file.infolist()}
    assert packed["manifest.json"] + packed["graph.onnx"] < 2000


def test_the_manifest_says_what_it_is(small):
    manifest = small().manifest
    assert manifest["format"] == 1 and manifest["model"] == "mlp" and manifest["scheme"] == "fp32"
    assert manifest["input"] == {"shape": [6], "dtype": "float32", "vocabulary": 0}
    assert manifest["output"] == {"shape": [3], "dtype": "float32"} and manifest["labels"] == ["a", "b", "c"]
    assert manifest["figures"] == {"parameters": 6 * 32 + 32 + 32 * 3 + 3, "multiply_adds": 6 * 32 + 32 * 3}
    assert manifest["check"]["error"] <= 1e-6


def test_annotated_artifacts_load(small):
    artifact = small()
    lab.artifacts.annotate(artifact.path, measured={"accuracy": 0.5})
    again = lab.load(artifact.path)
    assert again.manifest["measured"] == {"accuracy": 0.5}
    x = artifact.made_up(2)
    assert (again(x) == artifact(x)).all()


@pytest.mark.slow
def test_writing_leaves_the_module_as_it_was(tmp_path):
    model, about = model_of("own")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    write(tmp_path / "a.lepton", model, about, "bf16")
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.lepton"]  # no draft is left


# Called


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_gives_back_the_kind_that_it_got(small, runtime):
    artifact = small(runtime)
    x = artifact.made_up(4)
    scores = artifact(x)
    assert isinstance(scores, np.ndarray) and scores.shape == (4, 3)
    assert isinstance(artifact(torch.from_numpy(x)), torch.Tensor)
    assert artifact(x.tolist()).shape == (4, 3)
    assert artifact(x[0]).shape == (3,) and np.allclose(artifact(x[0]), scores[0], atol=1e-6)
    assert np.allclose(artifact(x.astype("float64")), scores, atol=1e-6)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artifact(x)


def test_predicts_names(small, tmp_path):
    artifact = small()
    x = artifact.made_up(4)
    names = artifact.predict(x)
    assert names == [["a", "b", "c"][i] for i in artifact(x).argmax(1)]
    assert artifact.predict(x[0]) == names[0]
    texts = make(tmp_path / "g.lepton", "gpt", runtime="torch")
    assert len(texts.predict(texts.made_up(2))) == 2 and len(texts.predict(texts.made_up(1)[0])) == 16
    about = About("mlp", (6,), "float32")
    regression = write(tmp_path / "r.lepton", nn.Linear(6, 1), about, runtime="torch")
    assert np.array_equal(regression.predict(x), regression(x))


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros((2, 1, 28, 27), np.uint8), r"shape \(2, 1, 28, 27\): must be \(batch, 1, 28, 28\)"),
        (np.zeros((28, 28), np.uint8), r"shape \(28, 28\)"),
        (np.zeros((0, 1, 28, 28), np.uint8), "an empty batch"),
        (np.zeros((1, 1, 28, 28), np.float32), "samples of float32: must be whole numbers"),
        (np.full((1, 1, 28, 28), 256), "samples from 256 to 256: must be whole numbers from 0 to 255"),
        (np.full((1, 1, 28, 28), -1), "samples from -1 to -1"),
        (np.array(["a"]), "no numbers"),
        ([[1, 2], [3]], "no array"),
        (None, "no numbers"),
    ],
)
def test_refuses_samples_that_do_not_fit(everything, samples, says):
    made, _ = everything
    with pytest.raises(lab.SpecError, match=says) as error:
        lab.load(made["mlp", "fp32", "onnxruntime"])(samples)
    assert "\n" not in str(error.value)


def test_refuses_tokens_and_numbers_out_of_range(everything, small):
    made, _ = everything
    texts = lab.load(made["gpt", "fp32", "onnxruntime"])
    with pytest.raises(lab.SpecError, match="from 0 to 30: must be whole numbers from 0 to 29"):
        texts(np.arange(15, 31).reshape(1, 16) * np.array([0] + [1] * 15))
    with pytest.raises(lab.SpecError, match="NaN or infinity"):
        small()(np.full((1, 6), np.nan, np.float32))
    with pytest.raises(lab.SpecError, match="samples of int64: must be finite floating-point"):
        small()(np.zeros((1, 6), np.int64))


# Files that are not what they say


def refusal(path, says):
    with pytest.raises(lab.LabError, match=says) as error:
        lab.load(path)
    text = str(error.value)
    assert "\n" not in text and str(path) in text, text
    return text


def members(path):
    with zipfile.ZipFile(path) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def forged(path, **changes):
    """The file with other members, and a manifest whose hashes are right: what a hostile writer would make."""
    found = members(path)
    manifest = json.loads(found.pop("manifest.json"))
    told = {k: v for k, v in manifest.items() if k not in ("format", "sha256", "digest")} | changes.pop("manifest", {})
    weights, graph = found.pop("weights.safetensors"), next(iter(found.values()))
    container.pack(path, told, changes.get("graph", graph), changes.get("weights", weights))
    return path


def test_refuses_what_is_no_artifact(tmp_path):
    refusal(tmp_path / "none.lepton", "there is no such file")
    (tmp_path / "text.lepton").write_text("hello")
    refusal(tmp_path / "text.lepton", "is no artifact")
    (tmp_path / "empty.lepton").write_bytes(b"")
    refusal(tmp_path / "empty.lepton", "is no artifact")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "torch.pt")
    refusal(tmp_path / "torch.pt", "without a manifest")
    refusal(tmp_path, "is a folder, not a file: name the file in it, .*empty.lepton")
    run = lab.Run(RunFolder.create(lab.Spec()))
    refusal(run.folder, r"is a folder.* run.model\(\) gives the module, lab.export\(run, 'model.lepton'\)")
    for given, says in (
        (run, rf"run '{run.id}' is no file: it holds no artifact; run.model\(\) gives the module"),
        (None, "path=None: must be the path of a file"),
        (3, "path=3: must be the path of a file"),
    ):
        with pytest.raises(lab.SpecError, match=says):
            lab.load(given)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_refuses_a_truncated_file(small, runtime):
    path = small(runtime).path
    body = path.read_bytes()
    for length in (2, 100, len(body) // 2, len(body) - 30, len(body) - 1):
        path.write_bytes(body[:length])
        refusal(path, "truncated or changed|can't be read|no artifact")


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_refuses_a_changed_file(small, runtime):
    path = small(runtime).path
    body = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        places = [(i.header_offset + 30 + len(i.filename), i.compress_size) for i in file.infolist()]
    for start, size in places:
        for at in (start, start + size // 2):  # the last byte of deflated data may have bits to spare
            path.write_bytes(body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :])
            refusal(path, "changed|can't be read")
    for name in members(path := small(runtime).path):  # even where a zip's own checksum was put right
        found = members(path)
        changed = found[name].replace(b"mlp", b"mlq")
        found[name] = changed if changed != found[name] else changed[:-1] + bytes([changed[-1] ^ 1])
        with zipfile.ZipFile(path, "w") as file:
            for other, text in found.items():
                file.writestr(other, text)
        refusal(path, "changed after it was written")
        small(runtime)


def test_refuses_a_newer_file(small):
    path = small().path
    found = members(path)
    manifest = json.loads(found["manifest.json"]) | {"format": 5, "lab": "9.0", "something": "new"}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("manifest.json", json.dumps(manifest))
        file.writestr("other.bin", b"")
    assert "format 5, written by lepton-lab 9.0" in refusal(path, "upgrade")


def test_refuses_other_members_and_weights_that_would_unpack(small):
    path = small().path
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("code.py", "print()")
    refusal(path, "other members")
    path = small().path
    found = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in found.items():
            file.writestr(name, body)
    refusal(path, "in a form that is not written")


def test_refuses_a_runtime_that_is_not_there(small, monkeypatch):
    path = small("onnxruntime").path
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refusal(path, r"needs onnxruntime, which is not installed: pip install 'lepton-lab\[compress\]'")


HOSTILE = "__import__('os').system('touch {out}')"
GRAPHS = [
    (["from_file.default", [{"text": "/etc/passwd"}, True, 10]], "from_file.default"),
    (["_unsafe_index.Tensor", ["%0", ["%0"]]], "_unsafe_index"),
    (["as_strided.default", ["%0", [10000], [1]]], "as_strided"),
    (["relu_.default", ["%0"]], "relu_"),
    (["relu.out", ["%0"]], "relu.out"),
    (["relu.__class__", ["%0"]], "relu.__class__"),
    (["relu._op", ["%0"]], "relu._op"),
    (["system", [{"text": HOSTILE}]], "system"),
    ([HOSTILE, ["%0"]], "__import__"),
    (["int.__import__", [{"text": "os"}]], "int.__import__"),
    (["relu.default", [HOSTILE]], "ValueError|is not there"),
    (["relu.default", ["%-1"]], "%-1"),
    (["relu.default", ["%99"]], "is not there yet"),
    (["to.dtype", ["%0", {"dtype": "load"}]], "dtype='load'"),
    (["to.dtype", ["%0", {"dtype": ["float32"]}]], "unhashable|no word"),
    (["to.dtype", ["%0", {"eval": HOSTILE}]], "eval="),
    (["to.dtype", ["%0", {"a": 1, "b": 2}]], "ValueError"),
    ("relu", "ValueError|not of calls|among"),
    (None, "TypeError"),
    ([["relu"], ["%0"]], "TypeError|AttributeError|not of calls"),
]


@pytest.mark.parametrize(("node", "says"), GRAPHS, ids=[str(g[0])[:30] for g in GRAPHS])
def test_executes_nothing_that_a_torch_graph_says(small, tmp_path, node, says):
    out = tmp_path / "out"
    node = json.loads(json.dumps(node).replace("{out}", str(out)))
    told = {"weights": [], "nodes": [node], "output": "%1"}
    path = forged(small().path, graph=json.dumps(told).encode())
    refusal(path, says)
    assert not out.exists()


DEEP = b"[" * 20_000 + b"]" * 20_000
NESTED = json.dumps({"weights": [], "nodes": [["relu.default", ["%0"]]], "output": "%1"}).encode()
NESTED = NESTED.replace(b'"%0"', b"[" * 800 + b'"%0"' + b"]" * 800)


@pytest.mark.parametrize(
    "graph", [DEEP, NESTED, b"", b"[]", b"{}", b"null", b"\x80\x04.", b'{"weights":["x"],"nodes":[],"output":"%0"}']
)
def test_refuses_a_torch_graph_that_is_none(small, graph):
    refusal(forged(small().path, graph=graph), "is not run")


@pytest.mark.parametrize(
    "told",
    [
        {"input": None},
        {"input": {"shape": [6], "dtype": "float64", "vocabulary": 0}},
        {"input": {"shape": ["6"], "dtype": "float32", "vocabulary": 0}},
        {"input": {"shape": [-6], "dtype": "float32", "vocabulary": 0}},
        {"input": {"shape": [2**40], "dtype": "float32", "vocabulary": 0}},
        {"input": {"shape": [6], "dtype": "int64", "vocabulary": 0}},
        {"output": {}},
        {"labels": [["a"]]},
        {"labels": ["a", "b"]},
        {"figures": {}},
        {"check": {}},
        {"preprocessing": []},
        {"model": 3},
    ],
    ids=str,
)
def test_refuses_a_manifest_that_no_model_has(small, told):
    refusal(forged(small().path, manifest=told), "its manifest")


def test_a_graph_that_fails_is_no_crash(small):
    told = {"weights": [], "nodes": [["view.default", ["%0", [7, 7]]]], "output": "%1"}
    artifact = lab.load(forged(small().path, graph=json.dumps(told).encode()))
    with pytest.raises(lab.LabError, match="its graph failed") as error:
        artifact(artifact.made_up(1))
    assert "\n" not in str(error.value)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_weights_are_never_unpickled(small, tmp_path, runtime):
    import io
    import pickle

    out = tmp_path / "out"
    buffer = io.BytesIO()
    torch.save(Touch(out), buffer)
    for weights in (buffer.getvalue(), pickle.dumps(Touch(out)), b"", struct.pack("<Q", 2**60) + b"{}"):
        refusal(forged(small(runtime).path, weights=weights), "no safetensors file")
    refusal(forged(small(runtime).path, weights=weights_of({})), "lack|not one of calls")
    assert not out.exists()


def onnx_with(path, change):
    model = onnx.ModelProto.FromString(members(path)["graph.onnx"])
    change(model)
    return forged(path, graph=model.SerializeToString())


def _outside(model):
    tensor = next(t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    tensor.name = "other"
    tensor.external_data[0].value = "/etc/passwd"


def _constant(model):
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["t"], value=tensor))


def _sparse(model):
    values = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="/etc/passwd")
    indices = helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    tensor = onnx.SparseTensorProto(values=values, indices=indices, dims=[2])
    model.graph.node.append(helper.make_node("Constant", [], ["t"], sparse_value=tensor))


def _foreign(model):
    model.graph.node.append(helper.make_node("EPContext", ["samples"], ["t"], domain="com.microsoft"))


def _branch(model):
    graph = helper.make_graph([], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["samples"], ["t"], then_branch=graph, else_branch=graph))


def _unknown(model):
    model.graph.node.append(helper.make_node("System", ["samples"], ["t"]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_outside, "lack 'other'"),
        (_constant, "names a file outside"),
        (_sparse, "holds a sparse tensor"),
        (_foreign, "'com.microsoft.EPContext' is not among"),
        (_branch, "a graph of its own"),
        (_unknown, "ONNX Runtime can't run"),
        (lambda m: m.functions.add(name="f"), "holds functions"),
        (lambda m: m.graph.ClearField("node"), "can't run|is not run"),
    ],
)
def test_an_onnx_graph_reaches_nothing_outside(small, change, says):
    refusal(onnx_with(small("onnxruntime").path, change), says)


def test_refuses_an_onnx_graph_that_is_none(small):
    refusal(forged(small("onnxruntime").path, graph=b"hello, world"), "no ONNX model|can't run")


# What is not written


def said(error):
    text = str(error.value)
    assert "\n" not in text, text
    return text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scheme": "int4"}, "unknown scheme.*known: fp32, bf16"),
        ({"scheme": "bf16", "runtime": "onnxruntime"}, "runtime='onnxruntime': scheme='bf16' runs under 'torch'"),
        ({"scheme": "int8_static"}, "calibration=None: scheme='int8_static' needs"),
        ({"scheme": "int8_static", "calibration": torch.zeros(3, 7)}, r"calibration: samples of shape \(3, 7\)"),
        ({"scheme": "int8_static", "calibration": torch.zeros(0, 6)}, "calibration"),
        ({"scheme": "int8_static", "calibration": torch.zeros(3, 6), "keep": ["1"]}, r"keep='1'.*known: 0, 2"),
        ({"keep": ["0"]}, "only int8_static and int8_dynamic"),
    ],
)
def test_refuses_before_it_writes(tmp_path, given, says):
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    with pytest.raises(lab.SpecError, match=says) as error:
        write(tmp_path / "a.lepton", model, About("mlp", (6,)), **given)
    said(error)
    assert not list(tmp_path.iterdir())


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


class Two(nn.Module):
    def forward(self, x):
        return x, "more"


class Valued(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Fixed(nn.Module):
    def forward(self, x):
        return x.view(3, 6)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


@pytest.mark.parametrize(
    ("module", "runtime", "says"),
    [
        (Bessel(), "onnxruntime", r"operator prims.bessel_j0 has no counterpart in ONNX.*runtime='torch'"),
        (Bessel(), "torch", "operator special_bessel_j0.default is not among.*runtime='onnxruntime'"),
        (Two(), "", "returns several outputs, of which one is a str"),
        (Valued(), "", "torch.export can't follow"),
        (Fixed(), "", "for any batch size"),
        (Counts(), "torch", "changes its own buffers"),
        (nn.Linear(5, 2), "", r"can't compute samples of shape \(6,\)"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_says_what_does_not_go_into_an_artifact(tmp_path, module, runtime, says):
    with pytest.raises(lab.LabError, match=says) as error:
        write(tmp_path / "a.lepton", module, About("net", (6,)), runtime=runtime)
    said(error)


def test_every_score_has_a_name_or_none_has(tmp_path):
    for outputs, labels in ((4, ["a", "b", "2", "3"]), (2, ["a", "b"]), (1, [])):
        about = About("net", (6,), labels=["a", "b"])
        artifact = write(tmp_path / "a.lepton", nn.Linear(6, outputs), about, runtime="torch")
        assert artifact.labels == labels
        named = artifact.predict(artifact.made_up(20))
        assert set(named) <= set(labels) if labels else named.shape == (20, 1)


def test_pixels_are_named_by_their_classes(tmp_path):
    torch.manual_seed(0)
    names = ["sky", "road", "car"]
    module = nn.Conv2d(1, 4, 3, padding=1).eval()  # tells one class more apart than has a name
    about = About("net", (1, 5, 6), "float32", names)
    artifact = write(tmp_path / "a.lepton", module, about, runtime="torch")
    assert artifact.labels == [*names, "3"]
    x = about.samples(2)
    expected = np.array(artifact.labels, object)[module(x).argmax(1).numpy()].tolist()
    assert artifact.predict(x) == expected and artifact.predict(x[0]) == expected[0]
    answers = torch.randint(0, 4, (2, 5, 6))
    measured = lab.measure(artifact, (x, answers), repeats=1, warmup=0)
    assert measured.accuracy == pytest.approx((module(x).argmax(1) == answers).float().mean().item())
    places = write(tmp_path / "b.lepton", nn.Linear(6, 2), dataclasses.replace(about, labels=names), runtime="torch")
    assert places.labels == [], "no axis of its scores has as many as there are classes"


@pytest.mark.slow
def test_layers_that_are_kept_stay_in_floats(tmp_path):
    for scheme in ("int8_static", "int8_dynamic"):
        model, about = model_of("mnist_cnn")
        found = {}
        for keep in ((), ("7",)):
            path = write(tmp_path / "a.lepton", model, about, scheme, about.samples(8), keep).path
            weights = read_weights(members(path)["weights.safetensors"])
            found[keep] = sorted(str(w.dtype) for w in weights.values() if w.size == 128 * 1600)
        assert found == {(): ["int8"], ("7",): ["float32"]}, scheme


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bias", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_scaling_goes_into_the_first_convolution_where_it_can(tmp_path, padding, channels, bias):
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=padding, bias=bias), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    model(torch.zeros(1, channels, 6, 6))
    about = About("net", (channels, 6, 6), "uint8", mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.4)[:channels])
    artifact = write(tmp_path / "a.lepton", model, about)
    kinds = [node.op_type for node in onnx.ModelProto.FromString(members(artifact.path)["graph.onnx"]).graph.node]
    assert ("Mul" in kinds) == ("Sub" in kinds) == bool(padding)
    x = about.samples(5)
    assert np.allclose(artifact(x.numpy()), Prepared(model, about)(x).numpy(), atol=1e-5)


class Scaling(nn.Module):
    """A model that does something to its inputs itself."""

    def __init__(self, does, padding):
        super().__init__()
        self.does = does
        self.conv, self.last = nn.Conv2d(1, 8, 3, 2, padding), nn.Conv2d(8, 3, 3)
        self.register_buffer("image", torch.rand(1, 12, 12))

    def forward(self, x):
        x = {"nothing": x, "scales": x * 2 - 1, "shifts": x - 0.25, "subtracts an image": x - self.image}[self.does]
        return self.last(self.conv(x).relu()).mean((2, 3))


@pytest.mark.parametrize("dtype", ["uint8", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("padding", [pytest.param(0, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize(
    "does",
    [pytest.param(word, marks=pytest.mark.slow) for word in ("nothing", "shifts")] + ["scales", "subtracts an image"],
)
def test_what_a_model_does_to_its_inputs_counts(tmp_path, does, padding, dtype):
    torch.manual_seed(0)
    module = Scaling(does, padding).eval()
    about = About("net", (1, 12, 12), dtype, ["a", "b", "c"], mean=(0.13,), std=(0.31,))
    x = about.samples(40)
    with torch.no_grad():
        scores = Prepared(module, about)(x).numpy()
    for scheme, tolerance in (("fp32", 1e-5), ("int8_static", 0.08)):
        artifact = write(tmp_path / "a.lepton", module, about, scheme, x)
        assert abs(artifact(x.numpy()) - scores).max() < tolerance * abs(scores).max(), scheme


def test_int8_as_storage_is_exact_to_half_a_step():
    weights = {"w": np.random.default_rng(0).normal(size=(8, 64)).astype("float32"), "b": np.ones(8, "float32")}
    for axes in ({}, {"w": -1}):
        stored = shrink(weights, axes)
        again = grow(stored)
        assert stored["w"].dtype == np.int8 and again.keys() == weights.keys()
        assert (abs(again["w"] - weights["w"]) <= 0.5001 * stored["w:scale"]).all()
        assert (again["b"] == weights["b"]).all()


# Other numbers than float32


class Rotary(nn.Module):
    """Positions as Llama's own code has them: complex numbers, kept or learned."""

    def __init__(self, learned=False):
        super().__init__()
        self.out = nn.Linear(16, 4)
        turns = torch.polar(torch.ones(8), torch.arange(8.0))
        if learned:
            self.turns = nn.Parameter(turns)
        else:
            self.register_buffer("turns", turns)

    def forward(self, x):
        turned = torch.view_as_complex(x.view(-1, 8, 2)) * self.turns
        return self.out(torch.view_as_real(turned).flatten(1))


class Casting(nn.Module):
    """Computes in numbers of its own kind, and counts seconds that no 32-bit float holds."""

    def __init__(self, kind):
        super().__init__()
        self.out = nn.Linear(16, 4).to(kind)
        self.register_buffer("seconds", torch.tensor(1.7e9 + 0.5, dtype=torch.float64))
        self.register_buffer("order", torch.tensor([3, 1, 2, 0]))

    def forward(self, x):
        return self.out(x.to(self.out.weight.dtype))[:, self.order] * ((self.seconds + 0.25) % 1)


class Drawing(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x))


def other(name):
    torch.manual_seed(0)
    if name.startswith("complex"):
        return Rotary(learned=name == "complex weights").eval()
    kind = {"bfloat16": torch.bfloat16, "double": torch.float64, "single": torch.float32}[name.split()[0]]
    return Casting(kind).eval() if name.endswith("cast") else nn.Linear(16, 4).to(kind).eval()


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("complex buffer", 1e-5),
        pytest.param("complex weights", 1e-5, marks=pytest.mark.slow),
        ("double", 1e-5),
        pytest.param("double cast", 1e-5, marks=pytest.mark.slow),
        pytest.param("single cast", 1e-5, marks=pytest.mark.slow),
        ("bfloat16", 0.02),  # in 32-bit floats, which round less than the module itself
    ],
)
def test_files_hold_what_the_user_s_module_computes(tmp_path, name, close):
    module, about = other(name), About("net", (16,))
    x = about.samples(7)
    kind = next(p.dtype for p in module.parameters())
    with torch.no_grad():
        scores = module(x if name.endswith(("cast", "buffer", "weights")) else x.to(kind)).float()
    allowed = close * scores.abs().max()
    assert (lab.load(lab.export(module, tmp_path / "m", about=about)["path"])(x) - scores).abs().max() <= allowed
    told = lab.export(module, tmp_path / "m", about=about, scheme="int8_weights")
    assert (lab.load(tmp_path / "m")(x) - scores).abs().max() <= 0.05 * scores.abs().max() >= told["difference"]
    told = lab.export(module, tmp_path / "m.pt2", "torch", about=about)
    assert (torch.export.load(tmp_path / "m.pt2").module()(x) - scores).abs().max() <= allowed >= told["difference"]
    assert lab.export(module, tmp_path / "m.onnx", "onnx", about=about)["difference"] <= allowed
    assert {t.dtype for t in module.state_dict().values()} == {t.dtype for t in other(name).state_dict().values()}


@pytest.mark.parametrize("form", ["lepton", "onnx", "torch"])
def test_what_a_file_can_t_compute_as_the_module_does_is_refused(tmp_path, form):
    about = About("net", (16,))
    cases = [(Drawing(16, 4), "fp32", "something else, off by.*draws random numbers|native_dropout")]
    cases += [(nn.Sequential(nn.Linear(16, 4), FFT()), "fp32", "returns complex numbers")]
    if form != "onnx":
        cases += [(Casting(torch.float32), "bf16", "computes something else, off by")]
    for module, scheme, says in cases:
        with pytest.raises(lab.LabError, match=says) as error:
            lab.export(module.eval(), tmp_path / "m", form, scheme=scheme, about=about)
        said(error)
    assert not list(tmp_path.iterdir())


class FFT(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x)


# Exported


@pytest.mark.parametrize(
    ("form", "scheme"),
    [("lepton", "fp32"), ("torch", "fp32"), ("onnx", "int8_static")]
    + [pytest.param(*way, marks=pytest.mark.slow) for way in (("onnx", "fp32"), ("lepton", "int8_dynamic"))],
)
def test_an_export_that_fails_half_way_leaves_the_older_file(tmp_path, form, scheme):
    about, path = About("net", (64,)), tmp_path / "m"
    lab.export(nn.Linear(64, 4), path, form, about=about)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # as a disk that is full
    try:
        with pytest.raises(lab.LabError, match=r"can't be written \(no file may be larger than 195 KiB") as error:
            lab.export(nn.Linear(64, 2000), path, form, scheme=scheme, about=about, calibration=about.samples(8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said(error)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("form", "scheme"), [("onnx", "fp32"), ("onnx", "int8_static"), ("torch", "fp32"), ("torch", "bf16")]
)
def test_exports_of_a_module(tmp_path, form, scheme):
    model, about = model_of("mnist_cnn")
    told = lab.export(model, tmp_path / "m", form, scheme=scheme, about=about, calibration=about.samples(32))
    x = about.samples(7)
    expected = Prepared(model, about)(x)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "m", providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {"samples": x.numpy()})[0])
    else:
        got = torch.export.load(tmp_path / "m").module()(x)
    allowed = TOLERANCE[scheme] * expected.abs().max()
    assert (got - expected).abs().max() <= allowed and told["difference"] <= allowed
    assert told["bytes"] == (tmp_path / "m").stat().st_size and told["batches"] == [1, 3]


def test_exports_read_torch_s_table_of_operators_once_and_leave_its_exporter_as_it_was(tmp_path):
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    before, asked = vars(ONNXRegistry)["from_torchlib"], onnx_graph._reader().cache_info()
    for name in ("a", "b"):
        lab.export(nn.Linear(2, 2), tmp_path / name, "onnx", about=About("net", (2,)))
    read = onnx_graph._reader().cache_info()
    assert read.misses <= 1 and read.hits + read.misses == asked.hits + asked.misses + 2
    assert vars(ONNXRegistry)["from_torchlib"] is before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"format": "tf"}, "unknown format"),
        ({"format": "onnx", "scheme": "bf16"}, "format='onnx' holds 'fp32' or"),
        ({"format": "torch", "scheme": "int8_static"}, "format='torch' holds 'fp32' or 'bf16'"),
        ({}, "about=None"),
    ],
)
def test_exports_that_are_refused(tmp_path, given, says):
    with pytest.raises(lab.SpecError, match=says) as error:
        lab.export(nn.Linear(2, 2), tmp_path / "m", **given)
    said(error)
    with pytest.raises(lab.LabError, match="must be a run or a torch module, and is of type str"):
        lab.export("model", tmp_path / "m")


def test_a_run_of_a_model_from_a_cell_becomes_a_file_and_commands_know_it(tmp_path, tiny):
    from helpers import call

    class Cell(nn.Module):
        def __init__(self, shape, classes):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))

        def forward(self, x):
            return self.body(x)

    run = lab.launch(tiny, model=Cell)
    assert run.wait(120) == "done"
    path = tmp_path / "cell.lepton"
    told = json.loads(call("export", run.id, path, "--scheme", "int8_static", "--json")[0])
    assert told["bytes"] == path.stat().st_size
    assert "a file that" not in call("export", run.id, tmp_path / "m.onnx", "--format", "onnx")[0]
    artifact = lab.load(path)
    assert artifact.labels == run.facts["classes"] and artifact.input_shape == (1, 8, 8)
    tried = json.loads(call("load-test", path, "--calls", 5, "--batch", 3, "--json")[0])
    assert tried["same"] and tried["per_second"] > 0
    found = json.loads(call("measure", path, "--data", "digits", "--repeats", 3, "--json")[0])
    whole = json.loads(call("measure", run.id, "--repeats", 3, "--json")[0])
    assert whole["accuracy"] == pytest.approx(run.summary()["test_accuracy"], abs=1e-6)
    assert abs(found["accuracy"] - whole["accuracy"]) < 0.02 and found["samples"] == whole["samples"]
    assert "p95" in call("measure", path, "--repeats", 2)[0]
    path.write_bytes(path.read_bytes()[:500])
    for words in (["load-test", path], ["measure", path]):
        _, said = call(*words, code=2)
        assert "truncated" in said
