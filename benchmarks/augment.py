"""Augmentation in batches on the rank's device against the same, picture by picture, in a DataLoader."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad
from torch.utils.data import DataLoader, Dataset

from .processes import take_turns
from .rows import Row

TITLE = "Pictures augmented, 3 x 32 x 32 in uint8 to normalised floats, batch 128, by one thread"
COUNT, SIDE, PADDING, DEGREES, STRENGTH = 20_000, 32, 4, 15.0, 0.2
FASTER = {0: 2.0}
"""What is aimed at, by processes of the DataLoader; two of them have twice the cores."""
LIGHT: list[Any] = ["flip", {"crop": {"padding": PADDING, "fill": "reflect"}}]
HEAVY: list[Any] = [
    *LIGHT,
    {"rotate": {"degrees": DEGREES}},
    {"colour": {"brightness": STRENGTH, "contrast": STRENGTH, "saturation": 0}},
]


class ByHand(Dataset[Any]):
    """The same operations on one picture, as a Dataset does them."""

    def __init__(self, x: Tensor, y: Tensor, heavy: bool) -> None:
        self.x, self.y, self.heavy = x, y, heavy

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        x = self.x[index].float() / 255
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        row, column = torch.randint(2 * PADDING + 1, (2,)).tolist()
        x = pad(x[None], (PADDING,) * 4, "reflect")[0, :, row : row + SIDE, column : column + SIDE]
        return ((_turned(x) if self.heavy else x) - 0.5) / 0.25, self.y[index]


def _turned(x: Tensor) -> Tensor:
    """A picture turned, brighter or darker, and with more or less contrast."""
    angle = math.radians(float(torch.empty(()).uniform_(-DEGREES, DEGREES)))
    cosine, sine = math.cos(angle), math.sin(angle)
    where = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    x = grid_sample(x[None], affine_grid(where, [1, 3, SIDE, SIDE], align_corners=False), align_corners=False)[0]
    brightness, contrast = torch.empty(2).uniform_(1 - STRENGTH, 1 + STRENGTH).tolist()
    x = (x * brightness).clamp(0, 1)
    mean = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).mean()
    return (mean + contrast * (x - mean)).clamp(0, 1)


def measure(quick: bool) -> list[Row]:
    """Rows of pictures a second, without a model: ours against a DataLoader with none and with two processes."""
    x = torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), dtype=torch.uint8)
    y = torch.randint(0, 10, (COUNT,))
    torch.set_num_threads(1)
    rows = []
    for name, transforms in (("flip, crop", LIGHT), ("flip, crop, rotate, colour", HEAVY)):
        peer = ByHand(x, y, heavy=transforms is HEAVY)
        rates = take_turns(
            {
                "ours": lambda transforms=transforms: _rate(_ours(x, y, transforms)),
                **{
                    f"{workers} processes": lambda workers=workers, peer=peer: _rate(
                        DataLoader(peer, 128, shuffle=True, num_workers=workers)
                    )
                    for workers in (0, 2)
                },
            },
            1 if quick else 5,
        )
        for workers in (0, 2):
            what = f"{name}; a DataLoader with {workers or 'no'} processes"
            rows.append(
                Row(what, rates["ours"], "pictures/s", rates[f"{workers} processes"], at_least=FASTER.get(workers))
            )
    return rows


def _ours(x: Tensor, y: Tensor, transforms: list[Any]) -> Iterable[Any]:
    import lepton_lab as lab
    from lepton_lab.datasets import Data
    from lepton_lab.engine.feed import by_itself

    half, quarter = (0.5,) * 3, (0.25,) * 3
    data = Data((x, y), None, None, (3, SIDE, SIDE), [*map(str, range(10))], half, quarter)
    feed = by_itself(data.train, data, lab.Spec(batch_size=128, transforms=transforms))
    return ([*batches] for batches, _ in feed.epoch(0))


def _rate(batches: Iterable[Any]) -> float:
    """Pictures a second of a whole pass."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return COUNT / (time.perf_counter() - began)
