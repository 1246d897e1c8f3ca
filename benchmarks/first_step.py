"""
Seconds from the launch of an equal job to its first step: `python -m benchmarks.first_step notebook|torchrun`.

What a notebook has imported before its user launches is not counted.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

WORLD, BATCH = 2, 64


def job(path: str) -> None:
    """One step of DDP by hand; rank 0 writes when it was done."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    splits = DATASETS["digits"](data_root(), 0)
    x, y = splits.train[0].float().div(255), splits.train[1]
    model = DistributedDataParallel(MODELS["cnn"](splits.shape, len(splits.classes)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    mine = torch.randperm(len(x))[:BATCH].tensor_split(WORLD)[dist.get_rank()]
    F.cross_entropy(model(x[mine]), y[mine]).backward()
    optimizer.step()
    if dist.get_rank() == 0:
        Path(path).write_text(str(time.time()))
    dist.barrier()
    del model
    dist.destroy_process_group()


def notebook(path: str) -> None:
    """Accelerate's launcher for notebooks: forks from the process that calls it."""
    from accelerate import notebook_launcher

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with contextlib.redirect_stdout(sys.stderr):
        notebook_launcher(job, (path,), num_processes=WORLD, use_port=port)


def torchrun(path: str) -> None:
    """torch's launcher: fresh processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}"]
    subprocess.run([*launcher, "-m", "benchmarks.first_step", "job", path], check=True, stdout=sys.stderr)


def main(launcher: str) -> float:
    if launcher == "notebook":
        import accelerate  # noqa: F401
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/first"
        start = time.time()
        globals()[launcher](path)
        return float(Path(path).read_text()) - start


if __name__ == "__main__":
    job(sys.argv[2]) if sys.argv[1] == "job" else print(main(sys.argv[1]))
