"""Meters: counts by hand, intervals from a table, clocks and memory on models that take a known time and room."""

from __future__ import annotations

import io
import json
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab import output
from lepton_lab.artifacts import About, counting, write
from lepton_lab.datasets import Data
from lepton_lab.measures import Latency, Measured, candidates, clocks
from lepton_lab.models import MODELS

SIX = About("net", (6,), "float32", ["a", "b", "c"])


def sample(*shape):
    return torch.zeros(1, *shape)


class OfVectors(nn.Module):
    """Products of a matrix and a vector, of two vectors, and one that is added to something."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x):
        scores = x[0] @ self.weight  # (7,)
        return torch.addmv(scores, x[0], self.weight) + torch.dot(self.weight, self.weight)


@pytest.mark.parametrize(
    ("module", "shape", "count"),
    [
        (nn.Linear(6, 5), (6,), 30),
        (nn.Linear(6, 5), (7, 6), 7 * 30),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 10 * 12 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, groups=4), (8, 10, 10), 8 * 8 * 8 * 2 * 9),
        (nn.Conv2d(4, 4, (3, 1), stride=2), (4, 9, 9), 4 * 5 * 4 * 4 * 3),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 5), 5 * 5 * 4 * 6 * 4),
        (nn.Conv1d(2, 3, 5), (2, 20), 16 * 3 * 2 * 5),
        (OfVectors(), (7, 6), 2 * 7 * 6 + 6),
        (nn.LSTM(5, 4, batch_first=True), (3, 5), 3 * 4 * 4 * (5 + 4)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (4, 8), 4 * 8 * (3 * 8 + 8 + 2 * 16) + 2 * 4 * 4 * 8),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)), (3, 4), 56),
        (MODELS["mlp"]((1, 28, 28), 10), (1, 28, 28), 784 * 128 + 128 * 10),
        (
            MODELS["mnist_cnn"]((1, 28, 28), 10),
            (1, 28, 28),
            26 * 26 * 32 * 9 + 11 * 11 * 64 * 32 * 9 + 1600 * 128 + 1280,
        ),
        (
            # 49 tokens of 16 pixels; of each block 12 products of width x width a token, and two of tokens x tokens.
            MODELS["transformer"]((1, 28, 28), 10, width=32, depth=2),
            (1, 28, 28),
            49 * 16 * 32 + 2 * (49 * 12 * 32 * 32 + 2 * 49 * 49 * 32) + 32 * 10,
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else str(v),
)
def test_multiply_adds_are_exact(module, shape, count):
    assert counting.multiply_adds(module.eval(), sample(*shape)) == count


def test_multiply_adds_and_parameters_of_a_text_model():
    model = MODELS["gpt"]((16,), 30, 30, width=32, depth=2, tied=True).eval()
    counted = counting.multiply_adds(model, torch.zeros(1, 16, dtype=torch.long))
    assert counted == 2 * (16 * 12 * 32 * 32 + 2 * 16 * 16 * 32) + 16 * 32 * 30
    block = 4 * (32 * 32 + 32) + 2 * 2 * 32 + 32 * 128 + 128 + 128 * 32 + 32
    assert counting.parameters(model) == 30 * 32 + 2 * block + 2 * 32  # the head's matrix is the embedding's


def test_latency_of_single_times():
    told = Latency.of([float(i) for i in range(100, 0, -1)])
    assert told == Latency(50.5, 95.0, 1.0, 100.0, 100)
    assert Latency.of([2.0]) == Latency(2.0, 2.0, 2.0, 2.0, 1)


def test_calls_take_turns_and_the_warm_up_is_not_timed(monkeypatch):
    monkeypatch.setattr(clocks, "SLOW", 10.0)
    seen = []

    def call(name, seconds):
        seen.append(name)
        time.sleep(seconds)

    (a, a_busy), (b, _) = clocks.in_turn([lambda: call("a", 0.01), lambda: call("b", 0.02)], repeats=3, warmup=2)
    turn = clocks.AGAIN + 1  # of whose calls only the last is timed
    assert "".join(seen) == "abab" + 3 * ("a" * turn + "b" * turn)
    assert len(a) == len(b) == 3 and min(a) >= 0.01 and min(b) >= 0.02
    assert a_busy < 0.01  # asleep


def test_a_slow_model_is_timed_less_often(monkeypatch):
    monkeypatch.setattr(clocks, "MOST", 0.05)
    monkeypatch.setattr(clocks, "SLOW", 0.005)
    calls = []
    ((seconds, _),) = clocks.in_turn([lambda: calls.append(time.sleep(0.01))], repeats=50, warmup=50)
    assert len(seconds) == clocks.LEAST and len(calls) < 12


def test_peak_memory_is_that_of_what_lives_at_once():
    size = 40_000_000  # bytes; two of three live at once

    def call():
        a = np.ones(size, np.uint8)
        b = a + 1
        del a
        return b + 1

    assert clocks.peak_memory(call) == pytest.approx(2 * size, rel=0.05)
    assert clocks.peak_memory(lambda: None) < 2_000_000


class Sized(nn.Module):
    """Answers rightly, for samples whose first number is their label, but for the last label."""

    def forward(self, x):
        label = x[:, 0].long()
        return nn.functional.one_hot(label.clamp(max=1), 3).float() + 0 * x[:, :3]


def test_accuracy_with_its_interval_over_the_samples_given():
    y = torch.tensor([0, 1, 2, 0, 1, 1, 0])
    x = torch.zeros(7, 6)
    x[:, 0] = y
    found = lab.measure(Sized(), (x, y), batches=(1, 4), repeats=2)  # 7 is no multiple of 4
    assert found.accuracy == 6 / 7 and found.samples == 7
    assert found.interval == pytest.approx((0.4869, 0.9743), abs=5e-5)  # Wilson 1927, of 6 in 7
    numbers = lab.measure(nn.Linear(6, 1), (x, y.float()), repeats=2)
    assert numbers.accuracy is None and numbers.interval is None


def test_one_score_names_no_class():
    found = lab.measure(nn.Linear(6, 1), (torch.zeros(8, 6), torch.arange(8) % 2), batches=(4,), repeats=1)
    assert found.accuracy is None and found.interval is None and found.samples == 0


def test_targets_of_a_dataset_may_be_of_any_kind():
    class Pairs(torch.utils.data.Dataset):
        def __init__(self, y):
            self.y = y

        def __len__(self):
            return 10

        def __getitem__(self, i):
            return np.full(6, i, np.float32), self.y(i)

    for y, classes in ((lambda i: np.ones(2), []), (lambda i: i % 3, ["a", "b", "c"])):
        data = Data(Pairs(y), None, Pairs(y), (6,), classes)
        found = lab.measure(nn.Linear(6, 3), data, batches=(4,), repeats=1)
        assert found.samples == (10 if classes else 0)
    assert About.of(Data([(np.zeros(6, np.uint8), 0)], None, None, (6,), ["a"]), "net").dtype == "uint8"


def test_figures_of_a_module_and_its_artifacts_agree(tmp_path):
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)).eval()
    x = SIX.samples(50)
    data = Data((x, model(x).argmax(1)), None, (x, model(x).argmax(1)), (6,), ["a", "b", "c"])
    before = torch.get_num_threads()
    whole = lab.measure(model, data, repeats=3)
    assert torch.get_num_threads() == before
    for scheme, runtime in (("fp32", "torch"), ("fp32", "onnxruntime"), ("int8_static", "onnxruntime")):
        artifact = write(tmp_path / "a.lepton", model, SIX, scheme, x, runtime=runtime)
        found = lab.measure(artifact.path, data, repeats=3)
        assert (found.parameters, found.multiply_adds) == (whole.parameters, whole.multiply_adds) == (643, 576)
        assert found.bytes == artifact.path.stat().st_size
        assert found.accuracy >= 0.9 and found.samples == 50
        assert set(found.latency) == {1, 64} and found.latency[64].repeats == 3
    assert 643 * 4 < whole.bytes < 643 * 4 + 400


def test_all_that_is_told_is_json_and_says_how():
    found = lab.measure(nn.Linear(6, 3), about=SIX, repeats=2, threads=2, watts=5)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["conditions"]["threads"] == 2 and told["conditions"]["device"]
    assert set(told["conditions"]["versions"]) == {"torch", "onnxruntime"}
    assert "2 threads of" in str(found) and "estimate: CPU seconds x 5 W" in str(found)
    assert "<table>" in found._repr_html_()
    assert found.speedup(1) is None and found.best_peer(1) is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_measuring_shows_how_far_it_is_where_somebody_looks(monkeypatch, capsys, tmp_path):
    artifact = write(tmp_path / "a.lepton", nn.Linear(6, 3), SIX, runtime="torch")
    found = lab.measure(artifact, repeats=2)
    assert capsys.readouterr().err == "" and found.name == f"{SIX.model}, fp32 under torch"
    monkeypatch.setattr(output, "EVERY", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    lab.measure(artifact, repeats=2, warmup=1)
    shown = sys.stderr.getvalue().split("\r\x1b[K")
    assert "measure: 1 in turn, batch 64: round 3 of 3" in shown and shown[-1] == ""


def test_times_stand_in_columns_of_their_own():
    (row,) = lab.measure(nn.Linear(6, 3), about=SIX, repeats=2).rows()
    assert float(row["ms, batch 64"]) <= float(row["p95 ms, batch 64"])


def test_peers_take_turns_and_the_best_of_them_is_what_counts(monkeypatch):
    monkeypatch.setattr(candidates, "has_bf16", lambda: True)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = lab.measure(model, (SIX.samples(9), torch.zeros(9, dtype=torch.long)), repeats=3, peers=True, control=model)
    names = ["dense, eager", "dense, bf16", "dense under ONNX Runtime", "dense, trained on as long"]
    assert [peer.name for peer in found.peers] == names
    assert all(peer.samples == 9 and set(peer.latency) == {1, 64} for peer in found.peers)
    best = min(found.peers, key=lambda peer: peer.latency[64].median)
    assert found.best_peer(64) == best
    assert found.speedup(64) == best.latency[64].median / found.latency[64].median
    assert found.peers[0].bytes > found.peers[1].bytes and found.peers[0].parameters == found.peers[1].parameters


class Fussy(nn.Module):
    """Makes a tensor of its own dtype, as code does that was never run in bfloat16."""

    def forward(self, x):
        return x @ torch.ones(6, 3)


def test_a_peer_that_can_t_be_had_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(candidates, "has_bf16", lambda: True)
    module = nn.Sequential(nn.Linear(6, 6), Fussy())
    found = lab.measure(module, (SIX.samples(9), torch.zeros(9, dtype=torch.long)), repeats=1, peers=True)
    assert [peer.name for peer in found.peers] == ["dense, eager", "dense under ONNX Runtime"]
    assert "RuntimeError" in found.conditions["missing"]["dense, bf16"] and "dense, bf16 can't be had" in str(found)


class Remembering(nn.Linear):
    """Keeps a table that it made in the numbers of its first samples."""

    table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.ones(6).to(self.weight.dtype)
        return super().forward(x.to(self.weight.dtype) * self.table)


def test_what_a_model_keeps_in_float32_is_no_part_of_it_in_bf16(monkeypatch):
    monkeypatch.setattr(candidates, "has_bf16", lambda: True)
    monkeypatch.setattr(candidates.shutil, "which", lambda name: None)
    found = {one.name: one.forward(SIX.signature.made_up(2)) for one in candidates.peers(Remembering(6, 3), SIX, 1)}
    assert np.allclose(found["dense, bf16"], found["dense, eager"], atol=0.05) and len(found) == 3


def test_speed_up_is_against_the_fastest():
    def one(name, seconds):
        return Measured(name, 1, 1, 1, {1: Latency(seconds, seconds, seconds, seconds, 1)})

    found = one("ours", 1.0)
    found.peers = [one("slow", 9.0), one("fast", 2.0)]
    assert found.best_peer(1).name == "fast" and found.speedup(1) == 2.0
    assert found.rows()[0]["x best peer, batch 1"] == "2.00"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # inductor's own
def test_a_compiled_peer_takes_its_turn(compiler, monkeypatch):
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # inductor would leave tqdm's thread
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # and those of its pool
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = lab.measure(model, (SIX.samples(9), torch.zeros(9, dtype=torch.long)), repeats=3, peers=True)
    assert "dense, compiled" in [peer.name for peer in found.peers], found.conditions["missing"]
    assert {peer.accuracy for peer in found.peers if "bf16" not in peer.name} == {found.accuracy}


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        (nn.Linear(6, 3), {}, "data=None: of a module"),
        (nn.Linear(6, 3), {"about": SIX, "batches": (0,)}, "batches=0: must be a whole number, at least 1"),
        (nn.Linear(6, 3), {"about": SIX, "batches": 0}, "batches=0: must be a list of whole numbers"),
        (nn.Linear(6, 3), {"about": SIX, "repeats": "a"}, "repeats='a': must be a whole number, at least 1"),
        (nn.Linear(6, 3), {"about": SIX, "repeats": 0}, "repeats=0: must be a whole number, at least 1"),
        (nn.Linear(6, 3), {"about": SIX, "data": [1]}, r"data: must be a Data or \(x, y\), not list"),
        (nn.Linear(6, 3), {"about": SIX, "data": (torch.zeros(2, 6), [0])}, "2 samples and 1 answers"),
        (nn.Linear(6, 3), {"about": SIX, "data": (torch.zeros(2, 5), [0, 1])}, r"samples of shape \(2, 5\)"),
        ("nowhere.lepton", {}, "there is no such file"),
        (3, {}, "must be a run or a torch module"),
    ],
    ids=lambda v: None,
)
def test_refuses_in_a_sentence(model, given, says):
    with pytest.raises(lab.LabError, match=says) as error:
        lab.measure(model, **given)
    assert "\n" not in str(error.value)


def test_an_artifact_needs_to_be_told_its_dense_peer(tmp_path):
    artifact = write(tmp_path / "a.lepton", nn.Linear(6, 3), SIX, runtime="torch")
    with pytest.raises(lab.SpecError, match="dense=None"):
        lab.measure(artifact, peers=True, repeats=1)
    found = lab.measure(artifact, peers=True, repeats=1, dense=nn.Linear(6, 3))
    assert "dense, eager" in [peer.name for peer in found.peers]
