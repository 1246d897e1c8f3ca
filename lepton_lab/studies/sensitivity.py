"""sensitivity(): how much each layer bears, found by compressing one at a time, without training."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from .. import errors, metrics
from ..charts import Chart
from ..charts.heat import Heat
from ..errors import SpecError
from ..objectives import Criterion
from ..run.handle import Run, attach
from ..store import shipping

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..metrics import Metric

RATIOS = (0.25, 0.5, 0.75)
INT8 = "int8"
"""The column of a layer whose weights and inputs are rounded to 8 bits."""
BATCH = 500


@dataclass(frozen=True)
class Sensitivity:
    """
    Accuracy with one layer compressed and all others as they are; last in a cell it shows its heat map.

    Attributes
    ----------
    whole : float
        Accuracy of the model as it is.
    samples : int
        That every accuracy was measured on: differences below about 1 / sqrt(samples) are noise.
    pruned : dict
        Layer -> ratio -> accuracy.
    rounded : dict
        Layer -> accuracy with that layer in int8.
    left : dict
        Layers that can't be pruned, with the reason.
    kinds : dict
        Layer -> what it is, such as "Conv2d 32 to 64".
    """

    run: str
    whole: float
    samples: int
    pruned: dict[str, dict[float, float]] = field(default_factory=dict)
    rounded: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def ratios(self, drop: float = 0.01) -> dict[str, float]:
        """
        For each layer the largest ratio scanned that loses at most `drop` of accuracy: for `prune`'s `ratios`.

        Layers that bear none of the ratios are left out.
        """
        _fraction(drop)
        borne = {
            layer: max((ratio for ratio, accuracy in accuracies.items() if self.whole - accuracy <= drop), default=0.0)
            for layer, accuracies in self.pruned.items()
        }
        return {layer: ratio for layer, ratio in borne.items() if ratio}

    def worst(self, drop: float = 0.01) -> list[str]:
        """Layers that lose more than `drop` of accuracy in int8, the worst first: for `quantize`'s `keep`."""
        _fraction(drop)
        ranked = sorted(self.rounded.items(), key=lambda item: item[1])
        return [layer for layer, accuracy in ranked if self.whole - accuracy > drop]

    def rows(self) -> list[dict[str, Any]]:
        """A line for each layer and what was done to it: layer, what, accuracy."""
        figures = [
            (layer, f"prune {ratio:g}", accuracy)
            for layer, accuracies in self.pruned.items()
            for ratio, accuracy in accuracies.items()
        ]
        figures += [(layer, INT8, accuracy) for layer, accuracy in self.rounded.items()]
        return [{"layer": layer, "what": what, metrics.main(): accuracy} for layer, what, accuracy in figures]

    def figure(self) -> Chart:
        """Layers by ratio as a heat map."""
        layers = list(dict.fromkeys([*self.pruned, *self.rounded]))
        ratios = sorted({ratio for accuracies in self.pruned.values() for ratio in accuracies})
        columns = [f"prune {ratio:g}" for ratio in ratios] + [INT8] * bool(self.rounded)
        cells = {(row["layer"], row["what"]): row[metrics.main()] for row in self.rows()}
        values = [[cells.get((layer, column)) for column in columns] for layer in layers]
        title = f"What each layer bears ({self.whole:.2%} as it is, {self.samples:,} samples)"
        words = [f"{layer} {what}: {accuracy:.2%}" for (layer, what), accuracy in cells.items()]
        text = f"{title}, without training after. {'; '.join(words)}."
        if self.left:
            text += f" Not pruned: {'; '.join(f'{name} ({why})' for name, why in self.left.items())}."
        named = [f"{name}  {self.kinds.get(name, '')}".rstrip() for name in layers]
        return Heat(title, text, named, columns, values, self.whole)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.figure()._repr_mimebundle_(include, exclude)


def _fraction(drop: Any) -> None:
    """Refuse a drop that is no fraction of right answers."""
    if isinstance(drop, bool) or not isinstance(drop, Real) or not 0 <= float(drop) <= 1:
        raise SpecError(f"drop={drop!r}: must be from 0 to 1, a fraction of right answers")


def sensitivity(
    run: Run | str,
    ratios: Iterable[float] = RATIOS,
    *,
    importance: str = "magnitude",
    int8: bool = True,
    samples: int = 2000,
) -> Sensitivity:
    """
    Compress one layer at a time, and see what accuracy is left; nothing is trained, and the run stays as it is.

    Parameters
    ----------
    run
        The run whose model is compressed, or its id.
    ratios
        Fractions of a layer's channels, neurons or heads that are really removed, each between 0 and 1.
    importance
        By what `prune` picks what it removes: "magnitude" or "random".
    int8
        Whether to round each layer to 8 bits too.
    samples
        Of the validation set that accuracy is measured on, at most (the test set where there is no other).

    Raises
    ------
    SpecError, LabError
        If a ratio is refused, the model can't be pruned, or its answers are not right or wrong.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from ..compressors import Work
    from ..compressors.groups import Structure
    from ..compressors.layers import unparametrized
    from ..compressors.prune import Prune

    run = attach(run)
    ratios = [*ratios] if isinstance(ratios, Iterable) else ratios
    if not isinstance(ratios, list) or not all(isinstance(ratio, Real) and 0 < float(ratio) < 1 for ratio in ratios):
        raise SpecError(f"ratios={ratios!r}: must be a list of fractions of a layer, each between 0 and 1")
    if importance not in ("magnitude", "random"):
        raise SpecError(f"importance={importance!r}: must be 'magnitude' or 'random', which need no training data")
    errors.whole("samples", samples, 1)
    module, (x, y, data) = unparametrized(run.model()), _some(run, samples)
    if y.is_floating_point():
        raise SpecError(f"run {run.id!r} is a regression: its answers are not right or wrong, so nothing is scanned")
    example = x[:2].clone()
    criterion = Criterion(shipping.unpack(run.store, ("loss",)).get("loss") or cross_entropy)
    metric = metrics.METRICS[metrics.main()](data, criterion)
    whole = judged(module, x, y, metric)
    structure = Structure(copy.deepcopy(module), example)
    work = Work(run.spec, *data.sample, example)

    def without(layer: str, ratio: float) -> nn.Module:
        link = Prune(ratios={layer: ratio}, importance=importance)  # type: ignore[arg-type]
        return link.apply(copy.deepcopy(module), work).eval()

    pruned: dict[str, dict[float, float]] = {}
    for unit in structure.units:
        try:
            pruned[unit.name] = {r: judged(without(unit.name, r), x, y, metric) for r in sorted(ratios)}
        except SpecError as error:  # the model's own code can't do without a part of it
            structure.left[unit.name] = str(error).partition("can't be pruned: ")[2] or str(error)
    rounded = _rounded(module, x, y, metric) if int8 else {}
    with torch.no_grad():
        kinds = {name: _kind(layer) for name, layer in module.named_modules()}
        return Sensitivity(run.id, whole, len(y), pruned, rounded, dict(structure.left), kinds)


def _kind(layer: nn.Module) -> str:
    """What a layer is, with the sizes of what goes in and comes out where it has them."""
    for what in ("features", "channels"):
        if hasattr(layer, f"in_{what}"):
            return f"{type(layer).__name__} {getattr(layer, f'in_{what}')} to {getattr(layer, f'out_{what}')}"
    return type(layer).__name__


def judged(module: nn.Module, x: Tensor, y: Tensor, metric: Metric) -> float:
    """A metric's figure of samples (N, ...), as the model takes them; refused where its outputs have none."""
    import torch

    with torch.no_grad():
        figure = metric.over(
            (module(part), targets) for part, targets in zip(x.split(BATCH), y.split(BATCH), strict=True)
        )
    if figure is None:
        raise SpecError("sensitivity: the model's answers are not right or wrong, so nothing is scanned")
    return figure


def _rounded(module: nn.Module, x: Tensor, y: Tensor, metric: Metric) -> dict[str, float]:
    """Accuracy with each layer alone computing with the numbers that int8 leaves."""
    import torch

    from ..compressors.layers import Rounded, replace, shared, weighted

    accuracies, tied = {}, shared(module)
    for name in [name for name, _ in weighted(module) if name and name not in tied]:
        other = copy.deepcopy(module)
        layer = Rounded(other.get_submodule(name))  # type: ignore[arg-type]
        replace(other, name, layer)
        layer.train()  # it follows the range of its inputs
        with torch.no_grad():
            other(x[:BATCH])
        accuracies[name] = judged(other.eval(), x, y, metric)
    return accuracies


def _some(run: Run, count: int) -> tuple[Tensor, Tensor, Data]:
    """Samples (N, *shape) as the model takes them, and their labels, of the validation set; and all the data."""
    import torch

    from ..engine.feed import by_itself
    from ..measures.candidates import run_data
    from ..store.trained import plain

    plain(run.store)
    data = run_data(run)
    part = data.val if data.val is not None else data.test
    if part is None:
        raise SpecError(f"run {run.id!r} has neither validation nor test samples: accuracy can't be measured")
    feed = by_itself(part, data, run.spec)
    batches = itertools.islice(feed.whole(), -(-count // feed.eval_batch))
    x, y = (torch.cat(parts) for parts in zip(*((batch.x, batch.y) for batch in batches), strict=True))
    return x[:count], y[:count], data
