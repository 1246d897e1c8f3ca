"""
The MLP as one would train it without us: `python -m benchmarks.mlp_peers NAME DATA EPOCHS MODEL` prints its samples/s.

MODEL is "mlp", or another one of the table, of pictures.

All train the same network on the same samples as we do, after SKIPPED steps that warm up; reading the data and making
it float, as each needs it, is not counted.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

from .ours import SKIPPED
from .processes import cores

BATCH = 100


class Task:
    """Data, network, optimizer, and a clock that runs from step SKIPPED on."""

    result = 0.0

    def __init__(self, data: str, epochs: int, model: str, fused: bool) -> None:
        splits = DATASETS[data](data_root(), 0)
        self.train, self.val, self.test = (scaled(split) for split in (splits.train, splits.val, splits.test))
        if model == "mlp":
            self.train, self.val, self.test = ((x.flatten(1), y) for x, y in (self.train, self.val, self.test))
            features = self.train[0].shape[1]
            self.model: nn.Module = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 10))
        else:
            self.model = MODELS[model](splits.shape, len(splits.classes)).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, fused=fused or None)
        self.epochs = epochs
        self.steps = self.samples = 0

    def loader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.train), batch_size=BATCH, shuffle=True)

    def step(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.count(len(x))

    def count(self, samples: int) -> None:
        self.steps += 1
        self.samples += samples
        if self.steps == SKIPPED:
            self.start, self.samples = time.perf_counter(), 0

    def rate(self) -> float:
        """Samples/s since step SKIPPED."""
        return self.samples / (time.perf_counter() - self.start)


def scaled(split: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(N, ...) of uint8 or float -> the same of floats."""
    x, y = split
    return x.float().div(255) if x.dtype == torch.uint8 else x, y


def in_memory(task: Task) -> float:
    """Batches by index from tensors."""
    for _ in epochs_of(task):
        pass
    return task.rate()


def epochs_of(task: Task) -> Iterator[int]:
    x, y = task.train
    for epoch in range(task.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            task.step(x[index], y[index])
        yield epoch


def in_memory_whole(task: Task) -> float:
    """The same with validation and a checkpoint each epoch, and a test at the end."""
    with tempfile.NamedTemporaryFile() as file:
        for _ in epochs_of(task):
            evaluate(task.model, *task.val)
            torch.save((task.model.state_dict(), task.optimizer.state_dict()), file.name)
        evaluate(task.model, *task.test)
        return task.rate()


def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy."""
    with torch.no_grad():
        output = model(x)
        return F.cross_entropy(output, y).item(), (output.argmax(1) == y).float().mean().item()


def loader(task: Task) -> float:
    """Batches from a DataLoader, the usual way."""
    for _ in range(task.epochs):
        for x, y in task.loader():
            task.step(x, y)
    return task.rate()


class Stream(IterableDataset[Any]):
    """Samples in their order, one after the other."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __iter__(self) -> Iterator[Any]:
        return zip(self.x, self.y, strict=True)


def streamed(task: Task, workers: int = 0) -> float:
    """Samples that come one after the other, put together by a DataLoader."""
    batches = DataLoader(Stream(*task.train), batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)
    for _ in range(task.epochs):
        for x, y in batches:
            task.step(x, y)
    return task.rate()


def streamed_ahead(task: Task) -> float:
    """The same, read ahead by a process beside."""
    return streamed(task, 1)


def accelerate(task: Task) -> float:
    """The DataLoader loop, prepared by Accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, batches = accelerator.prepare(task.model, task.optimizer, task.loader())
    for _ in range(task.epochs):
        for x, y in batches:
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(model(x), y))
            optimizer.step()
            task.count(len(x))
    return task.rate()


def lightning(task: Task) -> float:
    """Lightning's Trainer with logger, checkpoints and progress bar off, and the loss logged."""
    from lightning import pytorch as pl

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = task.model

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return task.optimizer

        def on_train_batch_end(self, outputs: Any, batch: list[Tensor], index: int) -> None:
            task.count(len(batch[0]))

        def on_train_end(self) -> None:
            task.result = task.rate()

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(max_epochs=task.epochs, accelerator="cpu", **off).fit(Module(), task.loader())
    return task.result


def main(name: str, data: str, epochs: str, model: str) -> None:
    torch.set_num_threads(len(cores()))
    torch.manual_seed(0)
    print(globals()[name](Task(data, int(epochs), model, fused=name.startswith("in_memory"))))


if __name__ == "__main__":
    main(*sys.argv[1:])
