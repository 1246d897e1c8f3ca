"""Metrics of a user's own: a function of all outputs and targets of a split, or a subclass of `Metric`."""

from __future__ import annotations

import inspect
import io
import pickle
import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..batches import described
from ..errors import SpecError, shown
from .base import LOOK, Metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..batches import Batch

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class OwnMetric(Metric):
    """A function of outputs (N, ...) and targets (N, ...) of a whole split, or of lists of them, on the CPU."""

    gathers = True
    function: Callable[[Any, Any], Any]

    def update(self, output: Any, target: Any) -> Tensor | list[Tensor]:
        """Outputs and targets of each sample side by side, (B, W); of those that are no tensors, as bytes (R, 1)."""
        import torch

        self._shapes: list[tuple[torch.Size, torch.dtype]] | None = None
        if isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor):
            self._shapes = [(part.shape[1:], part.dtype) for part in (output, target)]
            wide = torch.float64 if torch.float64 in (output.dtype, target.dtype) else torch.float32
            wide = wide if all(part.is_floating_point() for part in (output, target)) else torch.float64
            return torch.cat([part.detach().reshape(len(part), -1).to(wide) for part in (output, target)], 1)
        return [_bytes(pair) for pair in zip(output, target, strict=True)]

    def add(self, output: Any, batch: Batch) -> Any:
        """As `update`, of the sequences that outputs stand for, where they are none of samples."""
        pair = self.criterion.decoded(output, batch.y)
        return None if pair is None else self.update(*pair)

    def finish(self, sums: Tensor) -> float:
        """What the function gives; the sentence of what it raises names its type."""
        if self._shapes is None:
            pairs = _objects(sums)
            return _one(self.function([output for output, _ in pairs], [target for _, target in pairs]))
        widths = [shape.numel() for shape, _ in self._shapes]
        parts = [
            part.reshape(-1, *shape).to(dtype)
            for part, (shape, dtype) in zip(sums.split(widths, 1), self._shapes, strict=True)
        ]
        return _one(self.function(*parts))


def _one(value: Any) -> float:
    """The number that a function gave; a SpecError where it gave something else."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        remedy = "; take its mean()" if getattr(value, "shape", ()) else ""
        raise SpecError(f"it gives {described(value)}, and must give one number{remedy}") from None


def members(given: Mapping[str, Any] | None) -> dict[str, type[Metric]]:
    """The metrics that a user gave to `launch`, by name: subclasses as they are, functions as OwnMetric."""
    return {name: one if isinstance(one, type) else _of_function(name, one) for name, one in (given or {}).items()}


def looks(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What views must know of each: what it says of itself, of LOOK."""
    return {name: {key: value for key in LOOK if (value := getattr(one, key, "")) != ""} for name, one in given.items()}


def check(given: Any, taken: Collection[str], table: Mapping[str, type[Metric]]) -> None:
    """
    Refuse what is no metric of a user's own, by name; `taken` are other names that rows hold.

    Raises
    ------
    SpecError
        In one sentence.
    """
    if not isinstance(given, Mapping):
        raise SpecError(
            f"metrics={shown(given)}: must be functions by name, such as metrics={{'gap': my_gap}}; names of the table "
            "go into Spec(metrics=...)"
        )
    for name, one in given.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in taken or name in table:
            why = "is one of the table's: take another" if name in table else "must be a word of its own, such as 'gap'"
            raise SpecError(f"metrics: the name {name!r} {why}")
        _check_one(name, one)


def _check_one(name: str, one: Any) -> None:
    if isinstance(one, type):
        if not issubclass(one, Metric):
            raise SpecError(f"metrics: {name!r} is no subclass of lab.Metric, and no function of (output, target)")
        return
    if not callable(one):
        raise SpecError(f"metrics: {name!r} is {shown(one)}; give a function of (output, target), or a lab.Metric")
    try:
        inspect.signature(one).bind(None, None)
    except TypeError:
        raise SpecError(f"metrics: {name!r} can't be called with (output, target)") from None
    except ValueError:  # a function of C, which does not tell
        pass
    wrong = {"higher": bool, "form": str, "highest": (int, float), "title": str, "short": str, "axis": str}
    for key, kind in wrong.items():
        if hasattr(one, key) and not isinstance(getattr(one, key), kind):  # type: ignore[arg-type]
            raise SpecError(f"metrics: {name!r} has {key}={shown(getattr(one, key))}, which views can't take")
    try:
        format(0.5, getattr(one, "form", ""))
    except ValueError:
        raise SpecError(f"metrics: {name!r} has form={one.form!r}, which formats no number; such as '.2%'") from None


def _of_function(name: str, function: Callable[[Any, Any], Any]) -> type[Metric]:
    look = {key: getattr(function, key) for key in LOOK if hasattr(function, key)}
    return type(name, (OwnMetric,), {"function": staticmethod(function), **look})


def _bytes(pair: Any) -> Tensor:
    import torch

    file = io.BytesIO()
    on_cpu = torch.utils._pytree.tree_map(lambda part: part.cpu() if isinstance(part, torch.Tensor) else part, pair)
    pickle.dump(on_cpu, file)
    return torch.frombuffer(file.getbuffer(), dtype=torch.uint8)[:, None].clone()


def _objects(rows: Tensor) -> list[Any]:
    """What `_bytes` wrote, one after the other: by this run's own ranks."""
    file = io.BytesIO(rows.numpy().tobytes())
    end = rows.numel()
    objects = []
    while file.tell() < end:
        objects.append(pickle.load(file))
    return objects
