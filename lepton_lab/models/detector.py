"""
A detector without anchors: each cell of a grid says what it is a part of, and how far away the box's four sides are.

Legend of the shape comments: B pictures, C channels, H height, W width, G cells, K classes, M objects of a picture at
most, N boxes that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ..boxes import closeness, overlap
from ..errors import SpecError
from .resnet import convolution, initialise

CELL = 8  # pixels a side
INNER = 0.44  # of a box's sides: cells with their centre within stand for it
RARE = -4.0  # is added to scores: nearly all cells are background
LONGEST = 6.0  # of the logarithm of a distance in cells, so that a wild step overflows nothing
BOXES, LEAST = 100, 0.05  # how many boxes of a picture are looked at, the surest; and how sure one must be at least
SAME = 0.5  # overlap from which on two boxes of a class are taken for one object


class Detector(nn.Module):
    """
    Convolutions to a cell of 8x8 pixels; of each cell K scores and the distances to left, top, right and bottom.

    The sides are measured from the cell's centre, after Z. Tian et al., FCOS, arXiv:1904.01355. A detector with anchors
    measures them from boxes of some given sizes instead, of which each cell has several. It is called as torchvision's
    detectors are: with a list of pictures (C, H, W) and one of {"boxes": (M, 4), "labels": (M,)}.

    Parameters
    ----------
    channels
        C.
    classes
        K; labels are whole numbers below it.
    width
        Channels of the first convolution; the last has six times as many.
    """

    channels_last = True
    """Whether its kernels may lie so in memory: nothing here asks how activations lie."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            Unit(4 * channels, width),
            Unit(width, 2 * width, 2),
            Unit(2 * width, 2 * width),
            Unit(2 * width, 4 * width, 2),
            Unit(4 * width, 4 * width),
            Unit(4 * width, 6 * width),
            Unit(6 * width, 6 * width),
        )
        self.score, self.sides = nn.Conv2d(6 * width, classes, 1), nn.Conv2d(6 * width, 4, 1)
        initialise(self)
        for layer in (self.score, self.sides):
            nn.init.normal_(layer.weight, 0, 0.01)

    def forward(self, pictures: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None) -> Any:
        """In training a dict of losses; in evaluation what was found, a dict of each picture; given targets both."""
        x = _together(pictures)
        scores, boxes = self.look(x)
        losses = {} if targets is None else _losses(scores, boxes, _centres(x), targets)
        if self.training:
            return losses
        found = _found(scores.sigmoid(), boxes, [picture.shape[-2:] for picture in pictures])
        return {**losses, "detections": found} if losses else found

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> scores before the sigmoid (B, G, K) and boxes (B, G, 4)."""
        seen = self.body(x)
        scores, sides = (head(seen).flatten(2).transpose(1, 2).float() for head in (self.score, self.sides))
        far = CELL * sides.clamp(max=LONGEST).exp()  # (B, G, 4) pixels
        centres = _centres(x)
        return scores + RARE, torch.cat([centres - far[..., :2], centres + far[..., 2:]], -1)


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = convolution(before, after, stride), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / stride, W / stride)."""
        return torch.relu(self.norm(self.conv(x)))


def _together(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures as one tensor (B, C, H, W), with zeros at right and bottom up to whole cells of the largest."""
    high, wide = (-(-max(picture.shape[axis] for picture in pictures) // CELL) * CELL for axis in (-2, -1))
    return torch.stack([functional.pad(p, (0, wide - p.shape[-1], 0, high - p.shape[-2])) for p in pictures])


def _centres(x: Tensor) -> Tensor:
    """Of pictures (B, C, H, W) the centres of cells, (G, 2), across and down in pixels, row by row."""
    down, across = (CELL * (torch.arange(side // CELL, device=x.device) + 0.5) for side in x.shape[-2:])
    return torch.cartesian_prod(down, across).flip(-1)


def _assigned(centres: Tensor, boxes: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """
    Which object each cell stands for: its number (B, G), and whether it stands for one, (B, G).

    A cell stands for a box in whose inner part its centre lies, or whose middle lies in it; for the smaller one of two.
    Objects (B, M, 4) are those that are `there` (B, M).
    """
    sizes = boxes[..., 2:] - boxes[..., :2]  # (B, M, 2)
    away = (centres[:, None] - (boxes[:, None, :, :2] + boxes[:, None, :, 2:]) / 2).abs()  # (B, G, M, 2)
    near = (away <= INNER / 2 * sizes[:, None]).all(-1) | (away <= CELL / 2).all(-1)
    areas = sizes.prod(-1)[:, None].where(near & there[:, None], torch.inf)  # (B, G, M)
    smallest, number = areas.min(-1)
    return number, smallest.isfinite()


def _losses(scores: Tensor, boxes: Tensor, centres: Tensor, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """
    How wrong scores (B, G, K) and boxes (B, G, 4) are, each as a mean over pictures.

    Scores by the focal loss, in which the many cells that are surely background count next to nothing (T.-Y. Lin et
    al., arXiv:1708.02002, gamma 2), boxes of cells that stand for an object by how close they are to its own (GIoU);
    both by the number of such cells.
    """
    none = scores.new_zeros(1, 4)  # so that there is one of a batch without objects
    right = pad_sequence([torch.cat([t["boxes"].reshape(-1, 4).float(), none]) for t in targets], batch_first=True)
    labels = [torch.cat([t["labels"].long(), none.new_full((1,), -1).long()]) for t in targets]
    classes = pad_sequence(labels, batch_first=True, padding_value=-1)  # (B, M)
    if wrong := [label for label in classes.unique().tolist() if label >= scores.shape[-1]]:
        raise SpecError(
            f"data: a box has the label {wrong[0]}, but the data's `classes` are {scores.shape[-1]} names, so that "
            f"labels are at most {scores.shape[-1] - 1}; name them all"
        )
    number, some = _assigned(centres, right, classes >= 0)
    wanted = functional.one_hot(classes.gather(1, number).clamp(min=0), scores.shape[-1]) * some[..., None]
    count = some.sum(1).clamp(min=1)  # (B,)
    miss = (wanted - scores.sigmoid()).square() * functional.binary_cross_entropy_with_logits(
        scores, wanted.to(scores.dtype), reduction="none"
    )
    far = (1 - closeness(boxes, right.gather(1, number[..., None].expand(-1, -1, 4)))) * some
    return {"score": (miss.sum((1, 2)) / count).mean(), "box": 2 * (far.sum(1) / count).mean()}


def _found(chances: Tensor, boxes: Tensor, sizes: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """
    Of each picture boxes (N, 4) within it, labels (N,) and scores (N,), the surest first.

    A box is left out where a surer one of its class overlaps it, itself left out or not: all are compared at once, so
    that a file can do it too (fast NMS: D. Bolya et al., YOLACT, arXiv:1904.02689, section 4.1).
    """
    classes = chances.shape[-1]
    scores, place = chances.flatten(1).topk(min(BOXES, chances[0].numel()))  # (B, N)
    labels = place % classes
    boxes = boxes.gather(1, (place // classes)[..., None].expand(-1, -1, 4))  # (B, N, 4)
    found = []
    for score, label, box, (high, wide) in zip(scores, labels, boxes, sizes, strict=True):
        box = torch.stack([box[:, i].clamp(0, side) for i, side in enumerate((wide, high, wide, high))], 1)
        same = (overlap(box[:, None], box[None]) > SAME) & (label[:, None] == label)
        kept = (score >= LEAST) & ~same.triu(1).any(0)
        found.append({"boxes": box[kept], "labels": label[kept], "scores": score[kept]})
    return found
