"""What tasks show of a sample: an input in the form that it has, and an answer beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import spelling
from ..answers import class_axis
from ..batches import MASK
from ..errors import SpecError
from ..losses import IGNORED
from ..pictures import TRUTH, Bars, Curves, Image, Mask, Picture, Piece, Sound, Text, View, words

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data

FEW = 8  # numbers that are written out; of more a curve is drawn
SEVERAL = 3  # inputs of a sample that are seen
LABELS = ("labels", "label")  # names of what is no input
SPAN = ("start_positions", "end_positions")  # what Hugging Face's models call the places of an answer in a text


def given(x: Any, data: Data) -> View | None:
    """One input as it is seen: a text, a sound, a picture, a curve or numbers; None of what has no such form."""
    if not hasattr(x, "dim"):
        return None
    if x.dim() == 1 and not x.is_floating_point():
        return words(spelled(x, data, kinds(data)))
    if data.sample_rate and 0 < x.dim() <= 2 and x.numel() == max(x.shape):
        return Sound(x, data.sample_rate)
    return numbers(unscaled(x, data))


def inputs(nest: Any, data: Data) -> Picture:
    """What the model is called with, a batch of one sample: by its names, or by their order."""
    if isinstance(nest, Mapping):
        mask = nest.get(MASK)
        parts = {name: leaf for name, leaf in nest.items() if name not in (MASK, *LABELS, *SPAN)}
        if mask is not None:  # without padding
            same = {name for name, leaf in parts.items() if getattr(leaf, "shape", None) == mask.shape}
            parts = {name: leaf[mask.bool()][None] if name in same else leaf for name, leaf in parts.items()}
    elif isinstance(nest, (tuple, list)):
        parts = {f"given {i}": leaf for i, leaf in enumerate(nest, 1)}
    else:
        parts = {"given": nest}
    views = {name: given(leaf[0], data) for name, leaf in parts.items() if getattr(leaf, "ndim", 0)}
    return {name: view for name, view in [*views.items()][:SEVERAL] if view}


def numbers(values: Tensor) -> View | None:
    """Numbers in the form of their axes."""
    if values.dim() < 2 and values.numel() <= FEW:
        return words(", ".join(f"{value:.4g}" for value in values.reshape(-1).tolist()))
    if values.dim() == 3 and values.shape[0] > 3:  # channels, of which there is no picture, beside one another
        values = values.float().mean(0)
    if values.dim() in (2, 3) and min(values.shape[-2:]) > 1:
        return Image(values if values.dim() == 2 or values.shape[0] in (1, 3) else values[0])
    return Curves({"": values}) if values.numel() == max(values.shape) else None


def unscaled(x: Tensor, data: Data) -> Tensor:
    """Pixels, or other numbers, as they were before they were standardised."""
    import torch

    if not data.mean or x.shape != data.shape:
        return x.float()
    mean, std = (torch.tensor(part, device=x.device).view(-1, *[1] * (x.dim() - 1)) for part in (data.mean, data.std))
    raw = x.float() * std + mean
    return raw if data.unit == 1 else raw.clamp(0, 1)


def spelled(tokens: Any, data: Data, names: list[str] | None = None) -> str:
    """Tokens as text where data know how they are spelled, else as numbers; without those that are no tokens."""
    numbers = [int(token) for token in tokens if int(token) >= 0]
    decode = getattr(getattr(data.collate, "tokenizer", None), "decode", None)
    if decode is not None:
        return str(decode(numbers))
    return spelling.spelled(numbers, data.classes if names is None else names, data.tokens)


def kinds(data: Data) -> list[str]:
    """Names of the tokens of inputs; none where the data's names are those of labels, and pieces are not known."""
    return data.pieces or (data.classes if data.vocabulary == len(data.classes) else [])


def pieces(tokens: Tensor, right: Tensor, data: Data, names: list[str], counted: Tensor | None = None) -> list[Piece]:
    """Tokens (T,) as text, each right or wrong (T,) where it is `counted`; neighbours of one kind together."""
    runs: list[tuple[list[int], bool | None]] = []
    marks: list[bool | None] = [bool(good) for good in right.tolist()]
    if counted is not None:
        marks = [mark if counts else None for mark, counts in zip(marks, counted.tolist(), strict=True)]
    for token, mark in zip(tokens.tolist(), marks, strict=True):
        if runs and runs[-1][1] is mark:
            runs[-1][0].append(token)
        else:
            runs.append(([token], mark))
    space = "" if data.tokens else spelling.space(names)
    return [(spelled(some, data, names) + space * (i + 1 < len(runs)), mark) for i, (some, mark) in enumerate(runs)]


def answer(scores: Any, target: Any, data: Data, last: bool | None = None) -> Picture:
    """
    What a model says of one sample beside what is so: classes of it or of its places, or numbers.

    `last` says whether the scores of classes lie on the last axis, where both may: those of texts do.
    """
    if not hasattr(scores, "dim") or not hasattr(target, "dim"):
        return {}
    if not target.is_floating_point():
        axis = class_axis((1, *scores.shape), (1, *target.shape), tokens=target.dim() == 1 if last is None else last)
        if axis is not None:
            return _classes(scores.float().softmax(axis - 1), target, axis - 1, data)
    if target.numel() == scores.numel():
        scores = scores.reshape(target.shape)
    if target.dim() > 0 and FEW < target.numel() == max(target.shape) and scores.shape == target.shape:
        return {"": Curves({TRUTH: target, "predicted": scores})}
    return {name: view for name, view in ((TRUTH, numbers(target)), ("predicted", numbers(scores))) if view}


def _classes(chances: Tensor, target: Tensor, axis: int, data: Data) -> Picture:
    """The likeliest class, of a sample, of each token, or of each pixel."""
    chance, best = chances.max(axis)
    if target.dim() == 0:
        return called(int(best), float(chance), int(target), data)
    if target.dim() == 1:
        counted = target != IGNORED
        shown = best[counted] == target[counted]
        return {
            TRUTH: words(spelled(target, data)),
            "predicted": Text(pieces(best[counted], shown, data, data.classes)),
        }
    return {TRUTH: Mask(target, data.classes), "predicted": Mask(best, data.classes)} if target.dim() == 2 else {}


def called(best: int, chance: float, target: int, data: Data) -> Picture:
    """A class that is named, how sure that is, and the true one."""
    said = words(f"{label(best, data)} ({chance:.0%})", None if target == IGNORED else best == target)
    return {TRUTH: words("no label" if target == IGNORED else label(target, data)), "predicted": said}


def label(number: int, data: Data) -> str:
    """A class's name."""
    return data.classes[number] if 0 <= number < len(data.classes) else str(number)


def labels(scores: Tensor, target: Tensor, data: Data) -> Bars:
    """Labels that are yes or no: those that are or are said to be, by how sure the model is of them."""
    chances = scores.float().sigmoid().tolist()
    order = sorted(range(len(chances)), key=lambda i: (-float(target[i]), -chances[i]))
    return Bars([(label(i, data), chances[i], bool(target[i])) for i in order])


def labelled(data: Data, wanted: bool) -> bool:
    """Whether a model that makes samples is told their labels; a SpecError where it is to be, and there are none."""
    if wanted and not data.classes:
        raise SpecError("options={'labels': True}: the samples have no classes to be told; leave it out")
    return wanted
