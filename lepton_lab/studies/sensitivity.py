"""sensitivity(): how much each layer bears, found by compressing one at a time, without training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from .. import errors
from ..charts import Chart
from ..charts.heat import Heat
from ..errors import SpecError
from ..metrics import MEASURED, METRICS, Metric
from ..run.handle import Run, attach

if TYPE_CHECKING:
    from torch import nn

    from .scan import Scan

RATIOS = (0.25, 0.5, 0.75)
INT8 = "int8"
"""The column of a layer whose weights and inputs are rounded to 8 bits."""


@dataclass(frozen=True)
class Sensitivity:
    """
    Accuracy with one layer compressed and all others as they are; last in a cell it shows its heat map.

    Where answers are not right or wrong, it is another metric of the run's task: mAP, perplexity, R2.

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
    metric : str
        What stands in place of accuracy, a name of METRICS.
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
    metric: str = MEASURED

    @property
    def _of(self) -> type[Metric]:
        return METRICS[self.metric]

    def _lost(self, figure: float) -> float:
        """How much worse a figure is than the whole model's; what is no number is the worst."""
        lost = self.whole - figure if self._of.higher else figure - self.whole
        return lost if math.isfinite(lost) else math.inf

    def ratios(self, drop: float = 0.01) -> dict[str, float]:
        """
        For each layer the largest ratio scanned that loses at most `drop` of the metric: for `prune`'s `ratios`.

        Layers that bear none of the ratios are left out.
        """
        _fraction(drop, self._of)
        borne = {
            layer: max((ratio for ratio, accuracy in accuracies.items() if self._lost(accuracy) <= drop), default=0.0)
            for layer, accuracies in self.pruned.items()
        }
        return {layer: ratio for layer, ratio in borne.items() if ratio}

    def worst(self, drop: float = 0.01) -> list[str]:
        """Layers that lose more than `drop` of the metric in int8, the worst first: for `quantize`'s `keep`."""
        _fraction(drop, self._of)
        ranked = sorted(self.rounded.items(), key=lambda item: -self._lost(item[1]))
        return [layer for layer, accuracy in ranked if self._lost(accuracy) > drop]

    def rows(self) -> list[dict[str, Any]]:
        """A line for each layer and what was done to it: layer, what, accuracy."""
        figures = [
            (layer, f"prune {ratio:g}", accuracy)
            for layer, accuracies in self.pruned.items()
            for ratio, accuracy in accuracies.items()
        ]
        figures += [(layer, INT8, accuracy) for layer, accuracy in self.rounded.items()]
        return [{"layer": layer, "what": what, self.metric: accuracy} for layer, what, accuracy in figures]

    def figure(self) -> Chart:
        """Layers by ratio as a heat map."""
        layers = list(dict.fromkeys([*self.pruned, *self.rounded]))
        ratios = sorted({ratio for accuracies in self.pruned.values() for ratio in accuracies})
        columns = [f"prune {ratio:g}" for ratio in ratios] + [INT8] * bool(self.rounded)
        cells = {(row["layer"], row["what"]): row[self.metric] for row in self.rows()}
        finite = {cell: figure for cell, figure in cells.items() if math.isfinite(figure)}
        values = [[finite.get((layer, column)) for column in columns] for layer in layers]
        of = self._of
        named_by = "" if self.metric == MEASURED else f"{of.word()} "
        title = f"What each layer bears ({named_by}{of.text(self.whole)} as it is, {self.samples:,} samples)"
        words = [f"{layer} {what}: {of.text(accuracy)}" for (layer, what), accuracy in cells.items()]
        text = f"{title}, without training after. {'; '.join(words)}."
        if self.left:
            text += f" Not pruned: {'; '.join(f'{name} ({why})' for name, why in self.left.items())}."
        named = [f"{name}  {self.kinds.get(name, '')}".rstrip() for name in layers]
        return Heat(title, text, named, columns, values, self.whole, of)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.figure()._repr_mimebundle_(include, exclude)


def _fraction(drop: Any, of: type[Metric]) -> None:
    """Refuse a drop that is no fraction of right answers."""
    most = 1 if of.highest == 1 else math.inf
    if isinstance(drop, bool) or not isinstance(drop, Real) or not 0 <= float(drop) <= most:
        if most > 1:
            raise SpecError(f"drop={drop!r}: must be 0 or more, of {of.word()}")
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
        If a ratio is refused, the model can't be pruned, or no metric tells how good its answers are.
    """
    import torch

    from ..compressors import Work
    from ..compressors.groups import Structure
    from ..compressors.layers import unparametrized
    from ..compressors.prune import Prune
    from .scan import of_run

    run = attach(run)
    ratios = [*ratios] if isinstance(ratios, Iterable) else ratios
    if not isinstance(ratios, list) or not all(isinstance(ratio, Real) and 0 < float(ratio) < 1 for ratio in ratios):
        raise SpecError(f"ratios={ratios!r}: must be a list of fractions of a layer, each between 0 and 1")
    if importance not in ("magnitude", "random"):
        raise SpecError(f"importance={importance!r}: must be 'magnitude' or 'random', which need no training data")
    errors.whole("samples", samples, 1)
    module = unparametrized(run.model())
    scan = of_run(run, module, samples)
    example = scan.example()
    structure = Structure(copy.deepcopy(module), example)
    work = Work(run.spec, *scan.task.data.sample, example)

    def without(layer: str, ratio: float) -> nn.Module:
        link = Prune(ratios={layer: ratio}, importance=importance)  # type: ignore[arg-type]
        return link.apply(copy.deepcopy(module), work).eval()

    pruned: dict[str, dict[float, float]] = {}
    for unit in structure.units:
        try:
            pruned[unit.name] = {r: scan.judged(without(unit.name, r)) for r in sorted(ratios)}
        except SpecError as error:  # the model's own code can't do without a part of it
            structure.left[unit.name] = str(error).partition("can't be pruned: ")[2] or str(error)
    rounded = _rounded(module, scan) if int8 else {}
    with torch.no_grad():
        kinds = {name: _kind(layer) for name, layer in module.named_modules()}
        left = dict(structure.left)
        return Sensitivity(run.id, scan.whole, scan.samples, pruned, rounded, left, kinds, scan.metric)


def _kind(layer: nn.Module) -> str:
    """What a layer is, with the sizes of what goes in and comes out where it has them."""
    for what in ("features", "channels"):
        if hasattr(layer, f"in_{what}"):
            return f"{type(layer).__name__} {getattr(layer, f'in_{what}')} to {getattr(layer, f'out_{what}')}"
    return type(layer).__name__


def _rounded(module: nn.Module, scan: Scan) -> dict[str, float]:
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
            scan.task.evaluated(other, scan.batches[0].x)
        accuracies[name] = scan.judged(other.eval())
    return accuracies
