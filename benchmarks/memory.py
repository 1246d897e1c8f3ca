"""Memory of all that a run takes, each page counted once."""

from __future__ import annotations

import time

from .notebook import Kernel
from .rows import Row

TITLE = "Memory, proportional set size: CNN on digits, ddp over two processes, from a notebook"
LAUNCH = """
import lepton_lab as lab
run = lab.launch(lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=100_000))
while len(run.rows("train")) < 2: __import__("time").sleep(0.1)
"""
MB = 1e6


def measure(quick: bool) -> list[Row]:
    """Rows of megabytes: while training, after it, and what is left of the kernel alone."""
    from lepton_lab.events import memory

    training, kernels, idle = [], [], []
    with Kernel() as kernel:
        for _ in range(1 if quick else 3):
            kernel.run(LAUNCH)
            for _ in range(3):
                time.sleep(1)
                kernels.append(memory(kernel.process.pid) / MB)
                training.append(sum(memory(pid) for pid in kernel.children()) / MB)
            kernel.run("run.stop(); run.wait(20)")
            time.sleep(1)
            idle.append((memory(kernel.process.pid) + sum(memory(pid) for pid in kernel.children())) / MB)
    together = [a + b for a, b in zip(kernels, training, strict=True)]
    return [
        Row("kernel, supervisor and two ranks, while training", together, "MB", at_most=800),
        Row("of that the kernel", kernels, "MB"),
        Row("of that supervisor and ranks", training, "MB"),
        Row("kernel and idle standby, after it", idle, "MB"),
    ]
