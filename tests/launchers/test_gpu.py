"""Training on a GPU, where there is one: every strategy, what a kill leaves, one device for two, nodes over nccl."""

import contextlib
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from helpers import ROOT, ranks_of, until

import lepton_lab as lab
from lepton_lab.launchers import devices
from lepton_lab.optimizers import OPTIMIZERS
from lepton_lab.strategies import STRATEGIES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not devices.gpus(), reason="no CUDA device")]

TOUCHED = """
import torch, lepton_lab as lab
held = torch.ones(1, device="cuda")
run = lab.launch(lab.Spec(dataset="digits", model="mlp", device="cuda", epochs=1))
assert run.wait(120) == "done", run.failure
assert held.sum() == 1
"""


@pytest.fixture
def spec(endless):
    return endless.replace(world=1, device="cuda", strategy="single", checkpoint_every=1)


def losses(run, last=20):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def moves_to(run, state):
    until(lambda: run.state == state or run.state in ("failed", "interrupted"), 120)
    assert run.state == state, run.failure


def stopped(run, step):
    """The run once it has stopped after a step."""
    until(lambda: run.store.story().step > step or run.state == "failed", 120)
    run.stop()
    assert run.wait(120) == "stopped", run.failure
    return run


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """Losses of the transformer's first steps in one process on the CPU."""
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(tmp_path_factory.mktemp("cpu")))
        run = lab.launch(lab.Spec(dataset="digits", model="transformer", strategy="single", device="cpu", epochs=1))
        assert run.wait(300) == "done", run.failure
        return losses(run, 10)


@pytest.mark.parametrize("strategy", sorted(name for name, strategy in STRATEGIES.items() if strategy.gpus))
def test_a_rank_on_a_gpu_trains_as_on_the_cpu(on_cpu, strategy):
    spec = lab.Spec(dataset="digits", model="transformer", strategy=strategy, device="cuda", epochs=2)
    run = lab.launch(spec)
    assert run.wait(300) == "done", run.failure
    assert run.facts["device_name"].startswith("cuda")
    assert run.summary()["test_accuracy"] > 0.5
    assert losses(run, 10) == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_a_precision_on_a_gpu(precision):
    run = lab.launch(lab.Spec(dataset="digits", model="cnn", device="cuda", precision=precision, epochs=2))
    assert run.wait(300) == "done", run.failure
    assert run.summary()["test_accuracy"] > 0.5


def test_bf16_and_compile_on_a_gpu(compiler):
    spec = lab.Spec(dataset="pydocs", model="gpt", strategy="single", device="cuda", precision="bf16", compile=True)
    run = lab.launch(spec.replace(epochs=1, options={"width": 64, "depth": 2}))
    assert run.wait(300) == "done", run.failure


def test_all_that_a_run_may_keep_and_count_on_a_gpu():
    spec = lab.Spec(
        dataset="digits", model="cnn", device="cuda", epochs=3, accumulate=2, clip=1.0, ema=0.9, schedule="one_cycle",
        keep_best="val_accuracy", stop_early={"metric": "val_loss", "patience": 2}, metrics=["f1", "roc_auc"],
    )  # fmt: skip
    run = lab.launch(spec, hooks=[_notes])
    assert run.wait(300) == "done", run.failure
    assert run.summary()["test_f1"] > 0.5
    assert len(run.predictions("test")) and run.model("ema") is not None
    small = lab.compress(run, [{"prune": {"ratio": 0.3}}, {"quantize": {}}])
    assert small.wait(300) == "done", small.failure
    assert small.summary()["test_accuracy"] > 0.5


def _notes(moment):
    if moment.event == "step" and moment.step == 3:
        moment.log("norm", sum(p.detach().norm() for p in moment.model.parameters()))


def test_a_kernel_that_touched_cuda_launches_as_before(home):
    done = subprocess.run([sys.executable, "-c", TOUCHED], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_a_run_that_stopped_goes_on_as_if_it_had_not_on_the_gpu_and_on_the_cpu(spec):
    run = stopped(lab.launch(spec), 10)
    run.resume()
    stopped(run, run.store.story().step + 10)
    on_gpu = run.store.story().step
    run.resume(device="cpu")
    stopped(run, on_gpu + 10)
    on_cpu = run.store.story().step
    run.resume(device="cuda")
    stopped(run, on_cpu + 10)
    whole = losses(stopped(lab.launch(spec), on_cpu + 10), on_cpu)
    assert losses(run, on_gpu) == losses(run, on_cpu)[: len(losses(run, on_gpu))] == whole[: len(losses(run, on_gpu))]
    assert losses(run, on_cpu) == pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_an_optimizers_state_comes_back_where_its_kernels_read_it(spec, optimizer):
    run = stopped(lab.launch(spec.replace(optimizer=optimizer)), 10)
    run.resume()
    stopped(run, run.store.story().step + 10)


def test_a_killed_rank_leaves_no_memory_on_the_gpu(spec):
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def held():
        return pynvml.nvmlDeviceGetMemoryInfo(handle).used

    before = held()
    run = lab.launch(spec.replace(batch_size=1000), model=_Large())
    until(lambda: run.store.story().step > 3 or run.state == "failed", 120)
    assert held() > before + 1e9, run.failure
    for process in ranks_of(run):
        process.kill()
    assert run.wait(60) == "failed"
    until(lambda: held() < before + 1e8)
    pynvml.nvmlShutdown()


class _Large(torch.nn.Module):
    """Weights of 1 GB."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(64, 1 << 19), torch.nn.Linear(1 << 19, 10)
        self.held = torch.nn.Parameter(torch.zeros(1 << 28))

    def forward(self, x):
        return self.last(self.first(x.flatten(1))) + self.held[:1]


def test_more_than_the_gpu_has_is_told_with_its_remedy():
    def greedy(output, target):
        return output.sum() * torch.empty(1 << 45, dtype=torch.uint8, device=output.device)[0]

    run = lab.launch(lab.Spec(dataset="digits", model="mlp", device="cuda", epochs=1), loss=greedy)
    assert run.wait(120) == "failed"
    assert run.failure.type == "OutOfMemory"
    assert run.failure.message.startswith("out of memory: ")


def test_two_runs_take_turns_on_one_gpu_by_its_lease(spec, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    first = lab.launch(spec)
    until(lambda: first.store.story().step > 3, 120)
    second = lab.launch(spec)
    time.sleep(2)
    assert second.state == "queued" and first.state == "running"
    stopped(first, 5)
    stopped(second, 5)


@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp", "tensor", "pipeline", "local_sgd"])
def test_two_nodes_share_the_work_over_nccl(strategy, on_cpu):
    spec = lab.Spec(dataset="digits", model="transformer", strategy=strategy, device="cuda", epochs=1, world=2)
    run = lab.launch(spec, on=lab.Torchrun(nodes=2, address="127.0.0.1"))
    with _nodes(run, 2):
        assert run.wait(200) == "done", (run.failure, run.remark)
    assert run.facts["device_name"].startswith("cuda")
    assert losses(run, 10) == pytest.approx(on_cpu, rel=1e-3) or strategy == "local_sgd"


@contextlib.contextmanager
def _nodes(run, count):
    """Agents here with one GPU, which nccl refuses to two ranks of one host: each says that it is another host."""
    command = [sys.executable, "-m", "lepton_lab", "node", str(run.folder)]
    own = [{"NCCL_HOSTID": f"host{i}", "NCCL_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": "0"} for i in range(count)]
    nodes = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, **each}) for each in own]
    try:
        yield
        for node in nodes:
            node.wait(60)
    finally:
        for node in nodes:
            if node.poll() is None:
                for process in psutil.Process(node.pid).children(recursive=True):
                    process.kill()
                node.kill()
            node.wait()
