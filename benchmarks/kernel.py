"""What a kernel spends on showing a run while it trains."""

from __future__ import annotations

import time

from .notebook import Kernel
from .rows import Row

TITLE = "CPU of the kernel while a live view follows a run of two ranks"
WATCH = """
import lepton_lab as lab
from lepton_widgets.live import Live
run = lab.launch(lab.Spec(dataset="digits", model="mlp", strategy="ddp", world=2, epochs=100_000){model})
live = {view}
"""
SLOW = """
import time
from torch import nn
class Slow(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def forward(self, x):
        time.sleep(0.1)
        return self.layers(x)
"""


def measure(quick: bool) -> list[Row]:
    """Rows of percent of one core; the first is what a kernel spends with nothing to show."""
    seconds, repeats = (3, 1) if quick else (10, 3)
    slow = SLOW + WATCH.format(model=", model=Slow", view="{view}")
    fast = WATCH.format(model="", view="{view}")
    return [
        Row("no view, 10 steps/s", share(slow.format(view="None"), seconds, repeats), "%"),
        Row("live view, 10 steps/s", share(slow.format(view="Live(run)"), seconds, repeats), "%", at_most=5),
        Row("live view, as fast as two ranks go", share(fast.format(view="Live(run)"), seconds, repeats), "%"),
    ]


def share(cell: str, seconds: float, repeats: int) -> list[float]:
    """Percent of a core that the kernel uses, after the view has come, once each `seconds`."""
    shares = []
    with Kernel(LEPTON_LAB_STANDBY="0") as kernel:
        kernel.run(cell + "\nwhile not run.rows('train'): time.sleep(0.1)".replace("time.", "__import__('time')."))
        time.sleep(3)
        for _ in range(repeats):
            before, start = kernel.seconds(), time.perf_counter()
            time.sleep(seconds)
            shares.append(100 * (kernel.seconds() - before) / (time.perf_counter() - start))
        kernel.run("run.stop(); run.wait(10)")
    return shares
