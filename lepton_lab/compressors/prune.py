"""Prune: channels, neurons and heads leave the model, and with them their share of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..batches import call
from ..errors import SpecError, needs, unknown
from ..objectives import LEAST as LEAST_WEIGHT
from ..spec import Spec
from .base import Compressor, Epochs, Knob, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .groups import Structure, Unit

SAMPLED = 8  # training batches whose gradients tell what Taylor's importance is
LEAST = 0.1  # of a layer stays, whatever the others do better
CHOICES = {"magnitude": "Magnitude", "taylor": "Taylor", "random": "Random"}
IMPORTANCE = Knob("Keep what matters by", "Importance", "importance", choices=CHOICES)


class Prune(Compressor):
    """
    Removes channels, neurons and heads of attention that matter least: what is left is a smaller dense model.

    What has to go along is found by torch-pruning's dependency graph (Fang and others, arXiv:2301.12900). Importance is
    the size of the weights, what the loss would lose to first order (Molchanov and others, arXiv:1906.10771), or
    chance. `scope` "layer" takes the same ratio of each layer, "global" the least important wherever they are. In
    several `rounds` the ratio grows as 1 - (1 - r / rounds)^3 of it, with a share of the epochs after each.
    """

    knob = Knob(
        "Prune", "Channels, neurons and heads to remove; 0 prunes nothing", "ratio", 0.1, 0.9, beside=IMPORTANCE
    )

    def __init__(
        self,
        *,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        importance: Literal["magnitude", "taylor", "random"] = "magnitude",
        scope: Literal["layer", "global"] = "layer",
        ratios: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {},  # noqa: B006, never changed
        rounds: Annotated[int, Field(ge=1)] = 1,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.ratio, self.importance, self.scope = ratio, importance, scope
        self.ratios, self.rounds = dict(ratios), rounds  # fractions of single layers, by name, in place of `ratio`

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """More rounds than epochs, or two ways to say how much of a layer goes."""
        if self.ratios and self.scope == "global":
            return "compress={'prune': {'scope': 'global'}}: leaves no say in single layers; leave ratios out"
        return self.too_many("prune", spec)

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Score, choose and remove; layers that can't be pruned are told with the reason."""
        needs("compress='prune'", "torch_pruning")
        from .groups import Structure, remove

        structure = Structure(model, work.example)
        self._check_names(structure)
        for unit in structure.units:
            unit.score = self._score(unit, structure, model, work)
        counts = self._counts(structure, work)
        removed = {
            unit.name: sorted(unit.score.argsort(stable=True)[: unit.count - counts[unit.name]].tolist())
            for unit in structure.units
        }
        model = remove(model, work.example, structure, removed)
        self._check_names(structure)  # again: what the model's own code can't do without is known only now
        widths = {unit.name: [unit.count, counts[unit.name]] for unit in structure.units}
        self.notes = {"kept": widths, "left": structure.left}
        return model

    def _check_names(self, structure: Structure) -> None:
        """Refuse layers that are not there, or can't be pruned."""
        names = [unit.name for unit in structure.units]
        for name in self.ratios:
            option = f"compress={{'prune': {{'ratios': {{{name!r}: {self.ratios[name]}}}}}}}"
            if name in structure.left:
                raise SpecError(f"{option}: this layer can't be pruned: {structure.left[name]}")
            if name not in names:
                raise SpecError(f"{option}: {unknown('layer', name, names)}")
        if not names:
            why = (
                "; ".join(f"{name or 'its one layer'}: {why}" for name, why in structure.left.items())
                or "it has no such layer"
            )
            raise SpecError(f"compress='prune': the model has nothing that can be removed ({why})")

    def _counts(self, structure: Structure, work: Work) -> dict[str, int]:
        """How many of each unit stay after this round."""
        from .groups import Structure

        counts = {unit.name: unit.count for unit in structure.units}
        if self.rounds > 1 and work.before is not None:
            counts |= {u.name: u.count for u in Structure(work.before(), work.example).units if u.name in counts}
        progress = self.progress(work.round)
        left = {unit.name: unit.count for unit in structure.units}
        if self.scope == "layer":
            for name, count in left.items():
                ratio = self.ratios.get(name, 0.0 if self.ratios else self.ratio)
                left[name] = min(count, max(1, round(counts[name] * (1 - ratio * progress))))
            return left
        widths = {unit.name: unit.width for unit in structure.units}
        surplus = sum(n * widths[name] for name, n in counts.items()) * self.ratio * progress
        surplus -= sum((counts[name] - count) * widths[name] for name, count in left.items())
        ranked = sorted((float(s), u.name) for u in structure.units for s in u.score / u.score.mean().clamp(min=1e-12))
        for _, name in ranked:
            if surplus < widths[name] / 2:
                break
            if left[name] > max(1, round(LEAST * counts[name])):
                left[name] -= 1
                surplus -= widths[name]
        return left

    def _score(self, unit: Unit, structure: Structure, model: nn.Module, work: Work) -> Tensor:
        """How much each part of a unit matters (count,)."""
        import torch

        if self.importance == "random":
            place = structure.units.index(unit)
            generator = torch.Generator().manual_seed(work.spec.seed * 1_000_003 + place)
            return torch.rand(unit.count, generator=generator)
        import torch_pruning as tp

        scorer: Any = tp.importance.GroupMagnitudeImportance(p=2, normalizer=None)
        if self.importance == "taylor" and work.draw is not None:
            if all(p.grad is None for p in model.parameters()):
                _gradients(model, work)
            scorer = tp.importance.GroupTaylorImportance(normalizer=None)
        return scorer(unit.group).float().view(unit.count, unit.width).mean(1)


def _gradients(model: nn.Module, work: Work) -> None:
    """The loss's gradients over some batches, left in the parameters."""
    assert work.draw is not None
    criterion = work.criterion
    model.eval()  # no dropout: the same on every machine
    for batch in work.draw(SAMPLED):
        total, weight = criterion.parts(call(model, batch.x), batch)
        (total / weight.to(total.dtype).clamp(min=LEAST_WEIGHT)).backward()
