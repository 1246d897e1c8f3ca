"""One GPU: every strategy on it, GPT in bf16 compiled, how soon a killed run gives back its memory, and its lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import gpt, ours
from .processes import cores, take_turns, until
from .rows import Row

if TYPE_CHECKING:
    from lepton_lab import Run, Spec

TITLE = "One GPU: every strategy, GPT in bf16 compiled, a killed run, two runs by lease"


def measure(quick: bool) -> list[Row]:
    """Rows of all of it, in some six minutes; nothing where there is no GPU."""
    from lepton_lab.launchers.devices import gpus

    if not gpus():
        return []
    return [*strategies(1 if quick else 2), *kill(), *lease(), *gpt.measure(quick)]


def strategies(repeats: int) -> list[Row]:
    """Training rates of each with one rank, beside that of `single`."""
    import lepton_lab as lab
    from lepton_lab.strategies import STRATEGIES

    spec = lab.Spec(
        dataset="digits", model="transformer", device="cuda", batch_size=256, epochs=40, eval_every=0,
        checkpoint_every=0,
    )  # fmt: skip

    def rate(name: str) -> float:
        return ours.step_rate(ours.train(spec.replace(strategy=name), len(cores())))

    names = [name for name, strategy in STRATEGIES.items() if strategy.gpus]
    rates = take_turns({name: lambda name=name: rate(name) for name in names}, repeats)
    return [Row(f"{name}, single", rates[name], "samples/s", rates["single"]) for name in names if name != "single"]


def kill() -> list[Row]:
    """Bytes that a run holds on the GPU, and seconds from kill -9 of its rank until they are free."""
    import psutil

    run = begun(endless())
    held = used()
    for process in psutil.Process().children(recursive=True):
        if any(str(run.folder / "logs" / "rank") in file.path for file in process.open_files()):
            process.kill()
    start = time.perf_counter()
    run.wait(120)
    ended = time.perf_counter() - start
    left = until(lambda: used() if used() < held - 1e8 else None)
    freed = time.perf_counter() - start
    return [
        Row("GPU memory that a killed run gave back", [(held - left) / 1e6], "MB"),
        Row("seconds from kill -9 of its rank to the state failed", [ended], "s"),
        Row("seconds from kill -9 of its rank to free memory", [freed], "s"),
    ]


def lease() -> list[Row]:
    """Seconds from the end of a run on the GPU to the first step of the one that waits for it."""
    import lepton_lab as lab

    first, second = begun(endless()), lab.launch(endless())
    time.sleep(2)
    if second.state != "queued":
        raise RuntimeError(f"{second} beside {first} on one GPU")
    first.stop()
    first.wait(120)
    until(lambda: second.store.story().step > 0)
    seconds = second.rows("train")[0]["t"] - first.facts["t"]
    second.stop()
    second.wait(120)
    return [Row("seconds from a run's end to the first step of the next one on the GPU", [seconds], "s")]


def endless() -> Spec:
    """A spec that trains until it is stopped."""
    import lepton_lab as lab

    return lab.Spec(dataset="digits", model="mlp", device="cuda", epochs=100_000, eval_every=0, checkpoint_every=0)


def begun(spec: Spec) -> Run:
    """A run that has trained some steps."""
    import lepton_lab as lab

    run = lab.launch(spec)
    until(lambda: run.store.story().step > 3 or run.state == "failed")
    return run


def used() -> int:
    """Bytes of the first GPU that anybody holds."""
    import pynvml

    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    finally:
        pynvml.nvmlShutdown()
