"""DDP and FSDP as one would write them: `python -m benchmarks.parallel_by_hand ddp|fsdp DATA BATCH WORLD EPOCHS`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

from .ours import SKIPPED
from .processes import cores


def rank(rank: int, strategy: str, data: str, batch: int, world: int, epochs: int, folder: str) -> None:
    torch.set_num_threads(max(1, len(cores()) // world))
    torch.manual_seed(0)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", world), rank=rank, world_size=world)
    splits = DATASETS[data](data_root(), 0)
    x, y = splits.train
    x = x.float().div(255) if x.dtype == torch.uint8 else x
    model = MODELS["mnist_cnn"](splits.shape, len(splits.classes))
    if strategy == "ddp":
        model = model.to(memory_format=torch.channels_last)
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    else:
        model = fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    step = samples = 0
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(batch):
            mine = index.tensor_split(world)[rank]
            optimizer.zero_grad()
            F.cross_entropy(model(x[mine]), y[mine]).backward()
            optimizer.step()
            step += 1
            samples += len(index)
            if step == SKIPPED:
                start, samples = time.perf_counter(), 0
    if rank == 0:
        Path(folder, "rate").write_text(str(samples / (time.perf_counter() - start)))
    dist.barrier()
    del model  # destroying the group under a live DDP model can hang in gloo
    dist.destroy_process_group()


def main(strategy: str, data: str, batch: str, world: str, epochs: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = (strategy, data, int(batch), int(world), int(epochs), folder)
        multiprocessing.start_processes(rank, arguments, int(world), start_method="spawn")
        print(Path(folder, "rate").read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
