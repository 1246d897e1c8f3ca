"""
What a run minimises: a loss as a sum over targets and their weight, however a step's batch is cut.

Legend of the shape comments: B samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .answers import matches, right_answers
from .batches import Batch, described, tensors
from .errors import SpecError
from .losses import IGNORED, exact, number, takes_chances, terms, token_loss, unreduced, weigh, yes_or_no

if TYPE_CHECKING:
    from torch import Tensor

    from .datasets import Data
    from .losses import Loss

LEAST = 1e-12  # weight of targets that all are left out, whose sum of losses is 0


class Objective:
    """
    What training minimises where that follows from more than output and target: `batch` is the one at hand.

    It is called as a loss is: (output (B, ...), target (B, ...)) -> mean (scalar).
    """

    batch: Batch = Batch(None, None, 1.0, 1)
    counted: Sequence[Callable[[Tensor, Tensor], Tensor | None]] = ()
    """What metrics find in a micro-batch's outputs and targets beside the loss: `Metric.share` of each."""

    @property
    def criterion(self) -> Criterion:
        """The loss of labels, which says which targets count."""
        raise NotImplementedError

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a micro-batch."""
        raise NotImplementedError

    def over(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """A step's micro-batches, each seen here before the model sees it."""
        for batch in batches:
            self.batch = batch
            yield batch

    def settle(self) -> Tensor | None:
        """What a step's loss and gradient are to be multiplied by; None where each micro-batch knew its part of it."""
        return None

    def counts(self, output: Any, target: Any) -> Tensor | None:
        """What `counted` finds in a micro-batch, (M,) or one number; NaN, or None, where that has no meaning."""
        pair = self.criterion.compared(output, target)
        if pair is None or not self.counted:
            return None
        output, target = pair
        output = output.detach() if hasattr(output, "detach") else output  # whatever a user's loss takes
        if len(self.counted) == 1:
            return self.counted[0](output, target)
        import torch

        counts = [count(output, target) for count in self.counted]
        return torch.stack([exact(math.nan if value is None else value, target).reshape(()) for value in counts])


class Criterion(Objective):
    """
    A loss as a sum over targets and their weight: a step's loss is its sum over its weight, however it is cut.

    All samples weigh the same, except under torch's cross entropy (CrossEntropyLoss, NLLLoss and their functions, also
    through `functools.partial`): there a target weighs what its class weighs, and an ignored one nothing. Any other
    function is taken to average over samples, since what it averages over can't be known.

    Parameters
    ----------
    loss
        loss(output (B, ...), target (B, ...)) -> scalar, as `launch` takes it.
    data
        Whose targets tell whether some are ignored.
    total
        Sum of values over the ranks that compute a step's samples.
    tokens
        Whether targets are tokens of which some may be left out, whatever the data say.
    """

    def __init__(
        self,
        loss: Loss,
        data: Data | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
        tokens: bool = False,
    ) -> None:
        self.loss, self._terms = loss, terms(loss)
        self._total = total or (lambda values: values)
        texts = data is not None and data.vocabulary > 0
        self._tokens = tokens or (loss is token_loss or (texts and self._terms is None))
        self.even = self._terms is None or (data is not None and self._terms.alike(data))
        """Whether all samples weigh alike, so that the loss's own mean is one over samples."""
        self.summed = self._terms is not None and self._terms.summed
        """Whether the loss is a sum, not a mean."""
        self._mixed = data is not None and len(data.classes) > 0 and takes_chances(loss)
        padded = tokens or (data is not None and data.collate is not None)
        self._ignored = self._terms.ignored if self._terms else IGNORED
        self._masked = padded or not self.even  # whether some targets may not count
        self._ahead = self._masked  # whether a step's micro-batches are weighed before the model sees the first
        self._mean_weight: Tensor | None = None  # of a sample of the step at hand
        self._mean_answers: Tensor | None = None
        self._weights: Tensor | None = None  # of the steps since `weightless` was asked, where some may be nothing
        self._parts: list[Tensor] = []  # samples and weight of the step's micro-batches, where the loss tells weights

    tell: Callable[[str, Any], object] = staticmethod(lambda name, value: None)
    """Is given each loss of a dict, by its curve's name."""
    weights: Mapping[str, float] = {}
    """Of the losses of a dict; 1 of those that it lacks."""

    places = False
    """Whether a class is a place among what was drawn for a sample, and so no class of all samples."""
    axis = ""
    """Where outputs have the scores of classes, "first" or "last" of a sample's axes, as a task says it."""
    kind = ""
    """What answers are, a name of `metrics.KINDS`, where a task says it; else the data and the loss tell."""

    def last(self, target: Tensor) -> bool:
        """Whether scores of classes are along the last axis of outputs, where another one would suit as well."""
        return self.axis == "last" if self.axis else self._tokens

    def decoded(self, output: Any, target: Any) -> tuple[Any, Any] | None:
        """What metrics of texts, of sets and of a user's own compare: as `compared`, or what outputs stand for."""
        return self.compared(output, target)

    @property
    def criterion(self) -> Criterion:
        """Itself."""
        return self

    @property
    def ignored(self) -> int:
        """The label that it leaves out."""
        return self._ignored

    @property
    def entropy(self) -> bool:
        """Whether it is known to be a cross entropy of classes, of plain labels that weigh alike."""
        return self._terms is not None and self._terms.plain

    @property
    def yes_or_no(self) -> bool:
        """Whether each output is a score of its own for yes or no."""
        return yes_or_no(self.loss)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """What a micro-batch adds to its step's loss, as a mean over its samples; of a batch by itself, its loss."""
        if self.even or self._terms is None:
            value = self.value(output, target)
            return self._part(*value) if isinstance(value, tuple) else value
        total = self._terms.sum(output, target)
        if self._mean_weight is not None:
            return total / (self._mean_weight.to(total.dtype) * self._samples(target))
        return total if self.summed else total / self.weight(target).to(total.dtype).clamp(min=LEAST)

    def _samples(self, target: Tensor) -> float:
        """Of how many samples some targets are: they may be a part of the batch's, and several of each sample."""
        whole = self.batch.y
        if whole is target:
            return self.batch.samples
        return len(target) * self.batch.samples / len(whole) if hasattr(whole, "dim") else len(target)

    def value(self, output: Any, target: Any) -> Any:
        """
        The loss as it is given: a mean, or a sum and its weight; of a dict of means their weighted sum, each told.

        Anything but one number is a SpecError.
        """
        value: Any = self.loss(output, target)
        if isinstance(value, Mapping):
            parts = {name: number(part, f"{name!r} of the loss") for name, part in value.items()}
            for name, part in parts.items() if self.batch.share else ():
                self.tell(f"loss_{name}", part.detach())
            value = sum(part * self.weights.get(name, 1) for name, part in parts.items())
        if not isinstance(value, tuple):
            return number(value, "the loss")
        if len(value) != 2 or getattr(value[1], "numel", lambda: 1)() != 1:
            raise SpecError(
                f"the loss is {' and '.join(map(described, value))}: return one number, or a sum and its weight"
            )
        return number(value[0], "the loss"), value[1]

    def _part(self, total: Tensor, weight: Any) -> Tensor:
        """A micro-batch's sum for each of its samples, until the weight of the whole step is known (`settle`)."""
        import torch

        batch = self.batch
        samples, weight = exact(batch.samples, total), exact(weight, total).detach()
        self._parts.append(torch.stack([samples, weight.reshape(())]) * (batch.share > 0))
        return total / batch.samples

    @property
    def told(self) -> bool:
        """Whether the loss told the weight of a micro-batch that is not settled yet."""
        return bool(self._parts)

    def settle(self) -> Tensor | None:
        """The step's samples to its weight, over all ranks, where the loss told weights; it keeps none of them."""
        if not self._parts:
            return None
        samples, weight = self._total(sum(self._parts[1:], self._parts[0]))
        self._parts.clear()
        self._add(weight)
        return samples / weight.clamp(min=LEAST)

    def weightless(self) -> bool:
        """Whether the steps since this was last asked weighed nothing together, over all ranks."""
        weights, self._weights = self._weights, None
        return weights is not None and not float(weights)

    def _add(self, weight: Tensor) -> None:
        import torch

        # Of a device that would have to be waited for, the first step of each stretch tells; one of shapes alone is of
        # another type.
        soon = weight.device.type == "cpu" or self._weights is None
        if soon and type(weight) is torch.Tensor and (least := float(weight)) < 0:
            weigh(least, "loss=(sum, weight): weight")
        self._weights = weight if self._weights is None else self._weights + weight

    def over(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The same micro-batches, once it is known what a sample of their step weighs in the mean."""
        self._parts.clear()  # of a step that was broken off
        return super().over(self._weighed(list(batches)) if self._ahead else batches)

    def _weighed(self, batches: list[Batch]) -> Iterator[Batch]:
        import torch

        own = torch.zeros(3, dtype=torch.float64, device=tensors(batches[0].y)[0].device)
        for batch in batches:
            if batch.share:
                own += torch.stack([*self.tally(batch.y), own.new_full((), batch.samples)])
        weight, answers, samples = self._total(own)
        self._add(weight)
        samples = samples.clamp(min=1)
        self._mean_weight = (weight.clamp(min=LEAST) if not self.summed else 1.0) / samples
        self._mean_answers = answers.clamp(min=1) / samples
        yield from batches

    def tally(self, target: Any) -> tuple[Tensor, Tensor]:
        """What a micro-batch weighs, and how many answers of it can be right: (scalar, scalar), in float64."""
        weight = self.weight(target)
        known = self._terms is not None and self._terms.weight is None and not self.summed
        same = known and self._masked and not target.is_floating_point()  # each answer that counts weighs one
        return weight, weight if same else self.answers(target)

    def parts(self, output: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch by itself, as its sum and its weight."""
        if self._terms is not None:
            return self._terms.sum(output, batch.y), self.weight(batch.y)
        self.batch = batch
        value = self.value(output, batch.y)
        if isinstance(value, tuple):
            return value
        return value * batch.samples, exact(batch.samples, value)

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample by itself, (B,); NaN of a function that only gives a mean."""
        values = unreduced(self.loss, output, target)
        # A loss may have taken a mean of its own.
        if values is None or values.numel() < len(target) or len(values) % len(target):
            return output.new_full((len(target),), math.nan)
        values = values.reshape(len(target), -1)
        if self._terms is None or values.shape[1] != target[0].numel():
            return values.mean(1)
        counted = target.ne(self._ignored).reshape(values.shape)
        return (values * counted).sum(1) / counted.sum(1).clamp(min=1)

    def scores(self, output: Any) -> Any:
        """What of a model's outputs is compared."""
        return output

    def compared(self, output: Any, target: Any) -> tuple[Any, Any] | None:
        """What metrics compare, outputs and targets (B, ...); None where there is nothing that they could."""
        return output, target

    def weight(self, target: Tensor) -> Tensor:
        """What the loss's sum over a batch's targets is divided by to be the mean, in float64."""
        if self._terms is None or self.summed:
            return exact(len(target), target)
        return self._terms.weigh(target)

    def answers(self, target: Tensor) -> Tensor:
        """How many answers of a batch can be right, in float64: its samples, or its targets that are not ignored."""
        if not self._masked:
            return exact(len(target), target)
        return self._likeliest(target).ne(self._ignored).sum().double()

    def hits(self, output: Tensor, target: Tensor) -> Tensor | None:
        """How many of `answers` are right; None where that has no meaning."""
        target = self._likeliest(target)
        if not self._masked:
            return right_answers(output, target, tokens=self.last(target))
        right = matches(output, target, tokens=self.last(target))
        return None if right is None else (right & target.ne(self._ignored)).sum()

    def _likeliest(self, target: Tensor) -> Tensor:
        """Labels (B, ...); of chances of each class (B, K, ...), which samples that were mixed have, the likeliest."""
        return target.argmax(1) if self._mixed and target.is_floating_point() and target.dim() > 1 else target

    def count(self, target: Tensor) -> Tensor | None:
        """How many answers a micro-batch has, if its step's are dealt out evenly; None where those are not known."""
        return None if self._mean_answers is None else self._mean_answers * self._samples(target)

    def right(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Right answers of a micro-batch: as many as its samples, if all those of its step are right."""
        hits, samples = self.hits(output, target), self._samples(target)
        if hits is None or (not self._masked and samples == len(target)):
            return hits
        each = self._mean_answers
        if each is None:
            each = self.answers(target).clamp(min=1) / samples
        return hits / each
