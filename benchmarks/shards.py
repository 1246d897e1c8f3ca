"""Sets past memory: shards read block by block against the same samples in memory, and what memory they take."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from . import ours
from .processes import image_data, installed, take_turns
from .rows import Row

TITLE = "Shards on disk, MNIST CNN, batch 128, one process on two cores"
SMALL, LARGE = 50, 1000  # megabytes of a set


class Made:
    """Pictures of noise, made as they are asked for: 12 kB each."""

    def __init__(self, megabytes: int) -> None:
        self.count = megabytes * 1_000_000 // (3 * 64 * 64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        import torch

        if index >= self.count:
            raise IndexError(index)
        return torch.randint(256, (3, 64, 64), dtype=torch.uint8), index % 10


def measure(quick: bool) -> list[Row]:
    """Training rates of the formats, and the peak memory of all processes of a run on a small and on a large set."""
    import lepton_lab as lab
    from lepton_lab import datasets

    name = image_data()
    spec = lab.Spec(model="mnist_cnn", batch_size=128, epochs=1, eval_every=0, checkpoint_every=0, strategy="single")
    with tempfile.TemporaryDirectory() as folder:
        data = datasets.load(spec.replace(dataset=name))
        sets = {"memory": name}
        for kind in ("tar", *(["parquet"] if installed("pyarrow") else [])):
            datasets.write_shards(data, f"{folder}/{kind}", columns=kind == "parquet", told=lambda line: None)
            sets[kind] = f"shards:{folder}/{kind}"
        contenders = {kind: partial(_rate, spec.replace(dataset=where)) for kind, where in sets.items()}
        rates = take_turns(contenders, 1 if quick else 5)
        rows = [
            Row(f"{kind} on {name}, in memory", rates[kind], "samples/s", rates["memory"], at_least=0.9)
            for kind in sets
            if kind != "memory"
        ]
        peaks = [_peak(Path(folder) / "set", megabytes, lab) for megabytes in (SMALL, 2 * SMALL if quick else LARGE)]
    what = f"peak memory of a run on {'100 MB' if quick else '1 GB'} of shards, on 50 MB"
    return [*rows, Row(what, [peaks[1]], "MB", [peaks[0]], at_most=1.1)]


def _rate(spec: Any) -> float:
    return ours.step_rate(ours.train(spec, 2))


def _peak(folder: Path, megabytes: int, lab: Any) -> float:
    """Megabytes (proportional set size) of all that a run on so large a set takes, at most, in an epoch."""
    from lepton_lab import datasets
    from lepton_lab.host import memory
    from lepton_lab.store.story import ENDED

    names = [str(label) for label in range(10)]
    made = datasets.Data(Made(megabytes), Made(1), None, (3, 64, 64), names)
    datasets.write_shards(made, str(folder), told=lambda line: None)
    spec = lab.Spec(dataset=f"shards:{folder}", model="mlp", batch_size=128, epochs=1, checkpoint_every=0)
    run, most = lab.launch(spec), 0.0
    while run.wait(0.05) not in ENDED:
        found = 0
        for process in psutil.Process().children(recursive=True):
            try:
                found += memory(process.pid)
            except (OSError, psutil.Error):  # it has ended
                continue
        most = max(most, found / 1e6)
    if run.wait() != "done":
        raise RuntimeError(f"{run} {run.failure or ''}")
    shutil.rmtree(folder)
    return most
