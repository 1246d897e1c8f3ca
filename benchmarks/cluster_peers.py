"""
What launchers of others cost an equal run of two ranks: `python -m benchmarks.cluster_peers NAME` prints seconds.

NAME is torchrun (torch's elastic agent and a script by hand), ray_train (Ray Train's TorchTrainer, in a cluster of its
own) or lightning (Trainer under ddp, which starts the other rank as a process). All train the CNN on the digits and
keep a checkpoint for each SAVED steps in one file. Notice: kill -9 of rank 1 until the other rank is ended, too.
Recover: to the next step; of lightning, which ends for good, by a second command from the checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

from .processes import until

WORLD, BATCH, SAVED, EPOCH, ENDLESS = 2, 64, 20, 23, 10**6


class Steps:
    """A rank's share of each step, the checkpoint, and a line for each step in a file."""

    def __init__(self, folder: Path, rank: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        splits = DATASETS["digits"](data_root(), 0)
        self.x, self.y = splits.train[0].float().div(255), splits.train[1]
        self.model = MODELS["cnn"](splits.shape, len(splits.classes))
        self.folder, self.rank, self.done = folder, rank, 0
        if (path := folder / "saved.pt").exists():
            state = torch.load(path)
            self.done = state.pop("step")
            self.model.load_state_dict(state["model"])

    def batch(self) -> tuple[Any, Any]:
        """This rank's part of a batch drawn anew."""
        mine = torch.randperm(len(self.x))[:BATCH].tensor_split(WORLD)[self.rank]
        return self.x[mine], self.y[mine]

    def note(self) -> None:
        """Tell of a step that was done."""
        self.done += 1
        with (self.folder / "steps").open("a") as file:
            file.write(f"{self.rank} {os.getpid()} {time.time()}\n")
        if self.rank == 0 and self.done % SAVED == 0:
            torch.save({"model": self.model.state_dict(), "step": self.done}, self.folder / "draft.pt")
            (self.folder / "draft.pt").replace(self.folder / "saved.pt")


def job(folder: str, last: int) -> None:
    """DDP by hand in a group that is there."""
    steps = Steps(Path(folder), dist.get_rank())
    model = DistributedDataParallel(steps.model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    while steps.done < last:
        x, y = steps.batch()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        steps.note()
    dist.barrier()


def torchrun(folder: str, last: int) -> None:
    """A rank that torch's agent started."""
    dist.init_process_group("gloo")
    job(folder, last)
    dist.destroy_process_group()


def ray_train(folder: str, last: int) -> None:
    """The driver of Ray Train."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(num_cpus=WORLD, include_dashboard=False, log_to_driver=False)
    run = RunConfig(storage_path=f"{folder}/ray", failure_config=FailureConfig(max_failures=3))

    def work() -> None:
        from benchmarks.cluster_peers import job as ours  # what is of __main__ would be pickled, and torch with it

        ours(folder, last)

    TorchTrainer(work, scaling_config=ScalingConfig(num_workers=WORLD), run_config=run).fit()


def lightning(folder: str, last: int) -> None:
    """Trainer, which runs this command again as rank 1."""
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.steps = Steps(Path(folder), int(os.environ.get("LOCAL_RANK", 0)))
            self.model = self.steps.model

        def train_dataloader(self) -> list[int]:
            return [0] * (last - self.steps.done)

        def training_step(self, batch: Any, number: int) -> Any:
            x, y = self.steps.batch()
            return F.cross_entropy(self.model(x), y)

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps.note()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-3, fused=True)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    L.Trainer(
        accelerator="cpu", devices=WORLD, strategy="ddp", max_epochs=1, use_distributed_sampler=False, **quiet
    ).fit(Module())


def command(name: str, folder: str, last: int) -> list[str]:
    agent = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD}", "--max-restarts=3"]
    words = ["-m", "benchmarks.cluster_peers", name, folder, str(last)]
    return [sys.executable, *(agent if name == "torchrun" else []), *words]


def told(folder: str) -> list[tuple[int, int, float]]:
    """Of each step that was done: rank, process, time."""
    path = Path(folder) / "steps"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    words = [line.split() for line in lines if line.endswith("\n")]
    return [(int(rank), int(pid), float(at)) for rank, pid, at in words]


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def main(name: str) -> dict[str, float]:
    """Seconds by name."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.time()
        subprocess.run(command(name, folder, EPOCH), check=True, stdout=sys.stderr)
        whole = time.time() - begin
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        begin = time.time()
        process = started.enter_context(running(name, folder))
        until(lambda: told(folder))
        start = told(folder)[0][2] - begin
        until(lambda: (Path(folder) / "saved.pt").exists())
        before = {rank: pid for rank, pid, _ in told(folder)}
        killed = time.time()
        os.kill(before[1], signal.SIGKILL)
        until(lambda: gone(before[0]))
        notice = time.time() - killed
        if name == "lightning":
            process.wait()
            started.enter_context(running(name, folder))
        again = until(lambda: [at for _, pid, at in told(folder) if pid not in before.values()])
        return {"start": start, "notice": notice, "recover": again[0] - killed, "whole": whole}


@contextlib.contextmanager
def running(name: str, folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """An endless job, in a session of its own that is ended with it."""
    process = subprocess.Popen(command(name, folder, ENDLESS), stdout=sys.stderr, start_new_session=True)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(main(sys.argv[1])))
    else:
        globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
