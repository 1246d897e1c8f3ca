"""What a task calls its model with, as inputs of a file: found on a few samples of its data."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..batches import described, over
from ..compressors.layers import copied
from ..datasets import collated, length, rows
from ..errors import LabError
from .inputs import DTYPES, Input

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data
    from ..tasks import Task

GLANCED = 16  # samples that are looked at
LEAST = 5  # of an open size in made-up samples: other than of a batch, which torch could take for the same
CALLED: dict[type, str] = {dict: "keywords", tuple: "arguments", list: "list"}
USUAL = {"attention_mask": 1, "token_type_ids": 0}
"""What Hugging Face's models take an input to hold where a call leaves it out."""


def asked(task: Task, data: Data, module: nn.Module) -> dict[str, Any]:
    """
    What `About` says of a model's inputs and outputs; {} where it is called with raw samples of one shape.

    A LabError says in one sentence why a model is called with what no file can hold.
    """
    name = type(task).__name__
    raw = data.example is None
    if task.takes_raw:
        return {}
    if task.steps():
        raise LabError(f"task {name} has a step of its own, which alone knows how its model is called: {REMEDY}")
    task.setup(module)
    samples = _samples(data, range(min(GLANCED, length(data.train))))
    whole = _question(task, data, samples)
    call = CALLED.get(type(whole), "tensor")
    named = list(whole) if isinstance(whole, dict) else _names(module)
    values = values_of(whole, name)
    named += [f"input{i}" for i in range(len(named), len(values))]
    each = [values_of(_question(task, data, [sample]), name) for sample in samples] if data.collate else []
    opened = _open(each, task.opens, values)
    known = [0] if call == "list" else _vocabularies(module, whole, values)
    if call == "tensor":
        known[0] = known[0] or data.vocabulary
    inputs = [_input(n, v, opened.get(i, {}), known[i]) for i, (n, v) in enumerate(zip(named, values, strict=False))]
    fields: dict[str, Any] = {"inputs": tuple(_usual(i, inputs) for i in inputs), "call": call}
    if not raw and call == "tensor" and inputs[0].dtype == "uint8":  # which a nest's are given as they are
        fields |= {"mean": (0.0,), "std": (1 / 255,)}
    return fields


REMEDY = "give lab.export the module, run.model(), and about=lab.About(...)"


def posed(task: Task, places: Iterable[int]) -> Any:
    """What a model is called with for some training samples, see `batches.call`: as training, on the CPU in float32."""
    return _question(task, task.data, _samples(task.data, places))


def _samples(data: Data, places: Iterable[int]) -> list[Any]:
    split: Any = data.train
    if isinstance(split, tuple):
        return [(split[0][i], split[1][i]) for i in places]
    return [split[i] for i in places]


def _question(task: Task, data: Data, samples: list[Any]) -> Any:
    return task.question(prepared(task, data, samples, task.prepares))


def prepared(task: Task, data: Data, samples: list[Any], draws: bool, seed: int = 0) -> Any:
    """A batch of some samples, on the CPU in float32, as the task splits it; where it draws, with what is drawn."""
    import torch

    places = range(len(samples))
    batch = collated(data.collate, samples) if data.collate else rows(samples, places)
    if data.example is None:
        x = batch[0].long() if data.vocabulary else batch[0]
        batch = (x / 255 if x.dtype == torch.uint8 and task.nests else x, batch[1])
    batch = over(_float, batch)
    return task.prepare_evaluation(batch, torch.Generator().manual_seed(seed)) if draws else batch


def _float(leaf: Any) -> Any:
    return leaf.float() if hasattr(leaf, "is_floating_point") and leaf.is_floating_point() else leaf


def values_of(question: Any, name: str) -> list[Tensor]:
    """The tensors that a model is called with, in order; LabError where there is anything else, of a task's name."""
    import torch

    values = [*question.values()] if isinstance(question, dict) else question
    if isinstance(question, list) and question and isinstance(question[0], torch.Tensor):
        values = values[0][None]  # which are asked for one at a time
    values = [*values] if isinstance(values, (tuple, list)) else [values]
    if not all(isinstance(value, torch.Tensor) and value.dim() for value in values):
        raise LabError(
            f"task {name} calls its model with {described(question)}, of which not all are tensors with a row a "
            "sample, and a file takes no other: give lab.export a module that takes tensors, and about=lab.About(...)"
        )
    return values


def _vocabularies(module: nn.Module, question: Any, values: list[Tensor]) -> list[int]:
    """Of each input how many numbers the table has that the model looks it up in; 0 where none is seen to."""
    import torch

    sizes = [0] * len(values)
    model = copied(module).to("cpu").eval()

    def look(table: nn.Module, args: Any) -> None:
        for i, value in enumerate(values):
            if args and args[0].data_ptr() == value.data_ptr():
                size = int(table.num_embeddings)  # type: ignore[arg-type]
                sizes[i] = min(sizes[i] or size, size)

    for part in model.modules():
        if isinstance(part, torch.nn.Embedding):
            part.register_forward_pre_hook(look)
    with torch.no_grad(), contextlib.suppress(Exception):  # of the user's code; the writer says what can't be computed
        model(**question) if isinstance(question, dict) else model(*values)
    return sizes


def _usual(item: Input, inputs: list[Input]) -> Input:
    """An input with what it holds where it is left out, if another tells its shape."""
    others = (i.name for i in inputs if i.name not in USUAL and (i.shape, i.sizes) == (item.shape, item.sizes))
    if item.name not in USUAL or not (other := next(others, "")):
        return item
    return dataclasses.replace(item, like=other, fill=USUAL[item.name])


def _names(module: nn.Module) -> list[str]:
    """Names of what a module takes by place."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]


def _open(each: list[list[Tensor]], opens: Any, values: list[Tensor]) -> dict[int, dict[int, int]]:
    """Open axes of each input, with the size that made-up samples have there: alike where samples always are."""
    alike: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, value in enumerate(values):
        for axis in range(1, value.dim()):
            sizes = tuple(sample[i].shape[axis] for sample in each)
            if (i, axis) in opens:
                alike[i, axis] = [(i, axis)]
            elif len({*sizes}) > 1:
                alike.setdefault(sizes, []).append((i, axis))
    opened: dict[int, dict[int, int]] = {}
    taken = LEAST
    for places in alike.values():
        size = max(taken, *(values[i].shape[axis] for i, axis in places))
        taken = size + 2
        for i, axis in places:
            opened.setdefault(i, {})[axis] = size
    return opened


def _input(name: str, value: Tensor, opened: dict[int, int], vocabulary: int) -> Input:
    shape = tuple(None if axis in opened else size for axis, size in enumerate(value.shape) if axis)
    sizes = tuple(opened.get(axis, size) for axis, size in enumerate(value.shape) if axis)
    dtype = _dtype(value.dtype)
    below = 1 + max(0, int(value.max())) if dtype == "int64" and value.numel() else 0
    return Input(name, shape, dtype, vocabulary if dtype == "int64" else 0, sizes, below)


def _dtype(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return name if name in DTYPES else "float32" if dtype.is_floating_point else "int64"
