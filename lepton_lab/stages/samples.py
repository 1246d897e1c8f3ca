"""
Labels of texts, of one task or several, as samples that a run takes.

Legend of the shape comments: N samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpecError, shown

Labels = dict[str, list[str]]
"""Of each task by name, what its classes are called."""
ALONE = "label"
"""What the only task is called."""


def named(classes: int | Mapping[str, int]) -> Labels:
    """Classes by their number, of one task or several."""
    told = classes if isinstance(classes, Mapping) else {ALONE: classes} if classes else {}
    for name, count in told.items():
        _nameable(name)
        if type(count) is not int or count < 2:
            raise SpecError(f"classes={classes!r}: {name!r} must have at least 2, as a whole number")
    return {name: [str(number) for number in range(count)] for name, count in told.items()}


def rows(tokens: Sequence[Tensor], targets: Sequence[Any], known: Labels) -> tuple[list[Any], Labels]:
    """
    Of each split, texts (N, T) with their labels: a pair of tensors, or of several tasks a list of samples.

    Labels are numbers, or names, which are numbered in the order of the alphabet; also told is what they are called.
    The names of the tasks that are `known` stay, so that more data can follow.
    """
    several = [target if isinstance(target, Mapping) else {ALONE: target} for target in targets]
    each = [{name: _plain(name, values) for name, values in part.items()} for part in several]
    if not each[0]:
        raise SpecError("data: labels={}: has no task; give a list of labels, one a text, for each by its name")
    labels = {name: _classes(values, known.get(name, [])) for name, values in each[0].items()}
    if any(part.keys() != labels.keys() for part in each):
        raise SpecError(f"data: each part must have labels of the same tasks; the first has {', '.join(labels)}")
    splits: list[Any] = []
    for x, part in zip(tokens, each, strict=True):
        numbers = {name: _numbers(name, values, labels[name], len(x)) for name, values in part.items()}
        if len(labels) == 1:
            splits.append((x, *numbers.values()))
        else:
            splits.append([(text, {name: y[i] for name, y in numbers.items()}) for i, text in enumerate(x)])
    return splits, labels


def _nameable(name: str) -> None:
    """Refuse a task's name that no part of a module can have."""
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
        raise SpecError(f"{name!r}: is a name that no head can have; take another for the task, such as 'topic'")


def _plain(name: str, values: Any) -> list[str] | list[int]:
    """Labels as texts or whole numbers of Python; refused where they are neither, or both."""
    _nameable(name)
    if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
        raise SpecError(f"data: labels {shown(values)} of {name!r}: must be a list, one a text")
    found: list[Any] = []
    for value in values:
        try:
            found.append(str(value) if isinstance(value, str) else int(value))
        except (TypeError, ValueError, OverflowError):
            found.append(None)
        if found[-1] is None or found[-1] != value or isinstance(found[-1], str) != isinstance(found[0], str):
            raise SpecError(
                f"data: {shown(value)} is no label of {name!r}: take whole numbers from 0, or names, for all texts"
            )
    return found


def _classes(values: list[str] | list[int], known: list[str]) -> list[str]:
    """What classes are called: as is known, but for numbers that names now stand in the place of."""
    if isinstance(values[0], str):
        return known if known and not known[0].isdigit() else sorted(set(values))
    return known or [str(number) for number in range(max(2, int(max(values)) + 1))]


def _numbers(name: str, values: list[str] | list[int], labels: list[str], count: int) -> Tensor:
    if len(values) != count:
        raise SpecError(f"data: {count} texts have {len(values)} labels of {name!r}; give one a text")
    places = {label: number for number, label in enumerate(labels)}
    for value in values:
        if str(value) not in places:
            raise SpecError(f"data: {shown(value)} is none of the labels of {name!r}, which are {', '.join(labels)}")
    return torch.tensor([places[str(value)] for value in values])
