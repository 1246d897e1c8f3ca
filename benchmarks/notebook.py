"""A real kernel, as JupyterLab starts one, and what it and its children cost."""

from __future__ import annotations

import subprocess
from typing import Any

import psutil

from .processes import environment


class Kernel:
    """An ipykernel that runs cells, for use in a `with`; at its end the runs are stopped."""

    def __init__(self, **values: str) -> None:
        from jupyter_client.manager import start_new_kernel

        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment(**values), **quiet)
        self.process = psutil.Process(self.manager.provisioner.pid)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: Any) -> None:
        import lepton_lab as lab

        for run in lab.runs():  # they would outlive the kernel
            run.stop()
            run.wait(20)
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, cell: str) -> str:
        """Execute a cell; returns what it printed."""
        printed: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self.client.execute_interactive(cell, timeout=120, output_hook=hook)
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))
        return "".join(printed).strip()

    def seconds(self) -> float:
        """CPU time of the kernel alone so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    def children(self) -> list[int]:
        """Processes that it started, and theirs: warm process, supervisors and ranks."""
        return [child.pid for child in self.process.children(recursive=True)]
