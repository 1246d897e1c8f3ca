"""Every strategy on a GPU, where there is one."""

import pytest

import lepton_lab as lab
from lepton_lab.launchers import devices
from lepton_lab.strategies import STRATEGIES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not devices.gpus(), reason="no CUDA device")]


@pytest.mark.parametrize("strategy", sorted(name for name, strategy in STRATEGIES.items() if strategy.gpus))
def test_a_rank_on_a_gpu_trains_and_is_evaluated(strategy):
    spec = lab.Spec(dataset="digits", model="transformer", strategy=strategy, device="cuda", epochs=2)
    run = lab.launch(spec)
    assert run.wait(300) == "done", run.failure
    assert run.facts["device_name"].startswith("cuda")
    assert run.summary()["test_accuracy"] > 0.5


def test_bf16_and_compile_on_a_gpu(compiler):
    spec = lab.Spec(dataset="pydocs", model="gpt", strategy="single", device="cuda", precision="bf16", compile=True)
    run = lab.launch(spec.replace(epochs=1, options={"width": 64, "depth": 2}))
    assert run.wait(300) == "done", run.failure
