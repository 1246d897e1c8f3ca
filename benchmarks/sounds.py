"""Sounds changed in training, and their spectra, in batches on the device against one by one in a DataLoader."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .processes import take_turns
from .rows import Row

TITLE = "Sounds of half a second at 8 kHz, batches of 64: in batches on the device, and in a DataLoader (2 processes)"
BATCH, COUNT, CLASSES = 64, 1920, 6

Change = Callable[[Any, Any, int, Any], Any]


class Changed:
    """Samples of a DataLoader, each changed by itself."""

    def __init__(self, x: Any, y: Any, change: Change) -> None:
        self.x, self.y, self.change, self.epoch = x, y, change, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        import torch

        part = slice(place, place + 1)
        return self.change(self.x[part], self.y[part], self.epoch, torch.arange(place, place + 1))[0], self.y[place]


def measure(quick: bool) -> list[Row]:
    """Rows of samples a second, of what the same functions give."""
    from lepton_lab.datasets import DATASETS
    from lepton_lab.files import data_root

    data = DATASETS["tones"](data_root(), 0, samples=2400)
    x, y = (part[:COUNT] for part in data.train)
    changes = {"noise, shift and speed": _changed, "mel spectrum of 40 bands": _spectrum}
    rows = []
    for name, change in changes.items():
        contenders = {"batches": partial(_batches, x, y, change), "loader": partial(_loader, x, y, change)}
        rates = take_turns(contenders, 1 if quick else 5)
        rows.append(Row(name, rates["batches"], "samples/s", rates["loader"]))
    return rows


def _changed(x: Any, y: Any, epoch: int, places: Any) -> Any:
    from lepton_lab.transforms import TRANSFORMS, augmented

    steps = [(TRANSFORMS[name], {}) for name in ("white_noise", "time_shift", "speed")]
    return augmented(x, y, steps, 0, epoch, places)[0]


def _spectrum(x: Any, y: Any, epoch: int, places: Any) -> Any:
    from lepton_lab.transforms.speech import log_mel

    return log_mel(x, 8000)


def _batches(x: Any, y: Any, change: Change) -> float:
    """Samples a second of an epoch in batches by index, on a GPU where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = x.to(device), y.to(device)
    change(x[:BATCH], y[:BATCH], 0, torch.arange(BATCH, device=device))
    order = torch.randperm(len(x), device=device)
    begin = time.perf_counter()
    for places in order.split(BATCH):
        made = change(x[places], y[places], 1, places)
    float(made.sum())  # waits for the device
    return len(x) / (time.perf_counter() - begin)


def _loader(x: Any, y: Any, change: Change) -> float:
    """Samples a second of an epoch of a DataLoader, whose processes have started."""
    from torch.utils.data import DataLoader

    samples: Any = Changed(x, y, change)
    loader = DataLoader(samples, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    for _ in loader:
        pass
    begin = time.perf_counter()
    for _ in loader:
        pass
    return len(x) / (time.perf_counter() - begin)
