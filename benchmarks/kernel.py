"""What a kernel spends on showing a run while it trains."""

from __future__ import annotations

import time

from .notebook import Kernel
from .rows import Row

TITLE = "CPU of the kernel while a live view follows a run of two ranks"
MODELS = """
import time
import lepton_lab as lab
from lepton_widgets.live import Live
from torch import nn

class Slow(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        time.sleep(0.1)
        return super().forward(x)
"""
LAUNCH = """
run = lab.launch(lab.Spec(dataset="digits", model="mlp", strategy="ddp", world=2, epochs=100_000), model={model})
while not run.rows("train"):
    time.sleep(0.1)
view = {view}
"""


def measure(quick: bool) -> list[Row]:
    """Rows of percent of one core; the first is what a kernel spends with nothing to show."""
    seconds, repeats = (3, 1) if quick else (10, 3)
    bare, live, fast = (
        share(LAUNCH.format(model=model, view=view), seconds, repeats)
        for model, view in (("Slow", None), ("Slow", "Live(run)"), (None, "Live(run)"))
    )
    return [
        Row("no view, 10 steps/s", bare, "%"),
        Row("live view, 10 steps/s", live, "%", at_most=5),
        Row("live view, as fast as two ranks go", fast, "%"),
    ]


def share(cell: str, seconds: float, repeats: int) -> list[float]:
    """Percent of a core that the kernel uses once the view has come, over `seconds`, as often."""
    shares = []
    with Kernel() as kernel:
        kernel.run(MODELS + cell)
        time.sleep(3)
        for _ in range(repeats):
            before, start = kernel.seconds(), time.perf_counter()
            time.sleep(seconds)
            shares.append(100 * (kernel.seconds() - before) / (time.perf_counter() - start))
    return shares
