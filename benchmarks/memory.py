"""Memory of all that a run takes, shared pages counted once."""

from __future__ import annotations

import time

from .notebook import Kernel
from .rows import Row

TITLE = "Memory (proportional set size): CNN on digits, ddp over two processes, from a notebook"
LAUNCH = """
import time
import lepton_lab as lab
run = lab.launch(lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=100_000))
while len(run.rows("train")) < 2:
    time.sleep(0.1)
"""
VIEW = """
import torch
from lepton_widgets.live import Live
view = Live(run)
"""


def measure(quick: bool) -> list[Row]:
    """Rows of megabytes, in a kernel that only launches, and in one that has torch and a live view too."""
    repeats = 3 if quick else 8
    kernel, ranks, _ = watch(LAUNCH, repeats)
    viewing, viewed, idle = watch(LAUNCH + VIEW, repeats)
    least, most = ([a + b for a, b in zip(*parts, strict=True)] for parts in ((kernel, ranks), (viewing, viewed)))
    return [
        Row("kernel, warm process, supervisor and two ranks; the kernel only launches", least, "MB", at_most=800),
        Row("the same; the kernel has torch and a live view", most, "MB", at_most=800),
        Row("of that the kernel", viewing, "MB"),
        Row("after the run: that kernel and the idle warm process", [idle], "MB"),
    ]


def watch(cell: str, repeats: int) -> tuple[list[float], list[float], float]:
    """MB of the kernel, and of its children, each second of a run; and of all of them after it."""
    from lepton_lab.host import memory

    def children() -> float:
        return sum(memory(pid) for pid in kernel.children()) / 1e6

    own, others = [], []
    with Kernel() as kernel:
        kernel.run(cell)
        for _ in range(repeats):
            time.sleep(1)
            own.append(memory(kernel.process.pid) / 1e6)
            others.append(children())
        kernel.run("run.stop(); run.wait(20); time.sleep(1)")
        return own, others, memory(kernel.process.pid) / 1e6 + children()
