"""The contract of a task, and of one whose batches are pairs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..batches import call, described
from ..errors import SpecError
from ..losses import IGNORED
from ..objectives import Criterion
from ..spelling import pieces
from ..values import called
from .criteria import Scored, Stepped
from .seeing import answer, inputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data
    from ..pictures import Picture
    from ..spec import Spec

OwnLoss = Callable[[Any, Any], Any]


class Task:
    """
    What a batch means: what the model is called with, what is minimised, what is counted.

    A batch is any nest of dicts, lists and tuples with tensors at its leaves, on the rank's device. A task of your own
    overrides what it changes; most need `loss` alone.

    Legend of the shape comments: B samples.

    Parameters
    ----------
    data
        The splits.
    loss
        The user's own, as `launch` takes it; None where the task's is meant.
    """

    plain = False
    """Whether the model is called with x of a pair, as data have it, and compared with its y."""
    nests = False
    """Whether the model is called with more than one tensor, though samples may be pairs."""
    weights: Mapping[str, float] = {}
    """Of losses by name, where `loss` gives several; 1 of those that it lacks."""
    opens: ClassVar[tuple[tuple[int, int], ...]] = ()
    """Axes of inputs, as pairs (which input, axis), of which a file takes any size though batches have one."""
    output = ""
    """Which of a model's outputs a file holds, where they have names."""
    ignored: int = IGNORED
    """The label that the loss leaves out."""
    exact = True
    """Whether any world gives the same curve, to rounding."""
    everywhere = False
    """Whether an evaluation draws too (noise that is to be found), the same each time; else training alone does."""
    metrics: tuple[str, ...] = ()
    """Names of METRICS that are counted unasked, beside those that each run counts; the most telling first."""
    answers = ""
    """What its answers are, a name of `metrics.KINDS`; "" where the data, the model or its loss tell."""
    table_data = True
    """Whether a data set of the table can be what it needs without saying so, in its `tasks`."""
    table_models = True
    """
    Whether every model of the table does that names no tasks of its own: such are called with x alone, and give scores
    of classes or one number.
    """
    writes = False
    """Whether a model is to write by itself what metrics of texts compare: see `written`."""
    makes = False
    """Whether a model is to make samples by itself that metrics of sets compare with real ones: see `sampled`."""
    players: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Who steps in turn, see `Adversarial`; nobody where one optimizer has all parameters."""

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        self.data, self.given = data, loss

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Why it can make nothing of pairs such as these (`data.sample`), as one sentence; "" where it can."""
        return ""

    @classmethod
    def sees(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> tuple[tuple[int, ...], int, int]:
        """What models are told of such pairs, as `data.sample` has it."""
        return shape, classes, vocabulary

    @property
    def takes_raw(self) -> bool:
        """Whether the model is called with one tensor of one shape, as samples have it."""
        return self.data.example is None and self.data.collate is None and not self.nests and not self.steps()

    def setup(self, model: nn.Module) -> None:
        """Take from the model what the other methods need; refuse one that can't take the batches, with a SpecError."""
        if self.data.example is None or self.prepares or self.steps():
            return
        try:
            x = self.split(self.data.example)[0]
        except Exception:  # of the user's own code, which a rank runs again
            return
        why = f"of batches that are {described(self.data.example)} it gets {described(x)}"
        remedy = "give a lab.Task whose inputs(batch) is what it takes, or samples that are dicts by its names"
        takes(model, x, f"{why}: {remedy}")

    def inputs(self, batch: Any) -> Any:
        """What the model is called with: keywords as a dict, arguments as a tuple, or one of anything else."""
        return batch[0] if isinstance(batch, (tuple, list)) else batch

    def split(self, batch: Any) -> tuple[Any, Any]:
        """What the model is called with, and what its outputs are compared with."""
        return (batch,) if self.steps() else self.inputs(batch), batch

    def question(self, batch: Any) -> Any:
        """What a trained model is called with: as `split` has it, without what only the loss needs."""
        return self.split(batch)[0]

    def labels(self, model: nn.Module) -> list[str]:
        """What a trained model's scores are of, by name; empty where that is not known, or they are numbers."""
        return list(self.data.classes)

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """What a file of a trained model must know to answer as the task does, as JSON takes it: see `answering`."""
        text = pieces(getattr(self.data.collate, "tokenizer", None)) or _spelling(self.data)
        words = {"reworded": [*self.data.reworded]} if self.data.reworded else {}
        return words | ({"text": text} if text else {})

    def recall(self, reading: Mapping[str, Any], names: Sequence[str]) -> None:
        """Take from what `reading` told of a model that is a file, with inputs of these names, what `setup` takes."""

    def step(self, model: nn.Module, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """
        The body of a loop by hand, in place of `inputs` and `loss`: it calls the model and returns the loss.

        It may ask for `optimizer` by name, and go on with `loss.backward()` and `optimizer.step()`. Gradients, clip,
        accumulation, precision and ranks are the engine's all the same. `batch` is this rank's part of a micro-batch.
        """
        raise NotImplementedError

    @classmethod
    def steps(cls) -> bool:
        """Whether it has a step of its own."""
        return cls.step is not Task.step

    @classmethod
    def spec_of(cls, player: str, spec: Spec) -> Spec:
        """The spec as one of `players` has it."""
        return spec

    @classmethod
    def figures(cls) -> list[str]:
        """Names of what each step reports beside its loss."""
        return [f"{player}_loss" for player in cls.players]

    def loss(self, outputs: Any, batch: Any) -> Any:
        """
        What is minimised: a sum and its weight, such as the number of tokens that count; or a mean over samples.

        Or a dict of such means: their sum, by `weights`, is minimised, and each has a curve of its own, `loss_NAME`,
        as `lab.log` makes them.

        The step's loss is the sum over all its micro-batches and ranks, by their weight, however it is cut.
        """
        if self.given is None:
            raise SpecError(
                f"loss: batches are {described(batch)}, of which no loss is known; give loss=f(outputs, batch)"
            )
        return self.given(outputs, batch)

    def weight(self, batch: Any) -> Tensor | None:
        """What a batch weighs, (), in float64, where that is known before the model has run; else `loss` tells it."""
        return None

    @property
    def weighs(self) -> bool:
        """Whether `weight` is known before the model has run."""
        return type(self).weight is not Task.weight

    def scores(self, outputs: Any) -> Any:
        """What metrics compare of the outputs: scores (B, ...), numbers (B, ...), or None where nothing is compared."""
        return outputs

    def targets(self, batch: Any) -> Any:
        """What they compare it with: labels or numbers (B, ...), or None."""
        return batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None

    def made(self, parts: Mapping[str, Any], batch: Any) -> tuple[Any, Any] | None:
        """
        What the model made, by what it gave for a batch or each player's part did, and what that is to be like.

        Metrics of sets, such as the Fréchet distance, compare them. None where nothing was made.
        """
        return None

    def evaluated(self, model: Any, x: Any) -> Any:
        """What the model gives of a batch in an evaluation, where it is in eval mode; `x` as `split` gives it."""
        return call(model, x)

    def sampled(self, model: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """What a model makes by itself in an evaluation, and the real samples of a batch, which are as many."""
        raise NotImplementedError

    def written(self, model: Any, x: Any, length: int) -> list[list[int]]:
        """What a model writes of a batch's inputs by itself, at most so many tokens of each sample."""
        raise NotImplementedError

    def each(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample by itself, (B,), of what metrics compare; NaN where that is not known."""
        return scores.new_full((len(scores),), math.nan)

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """
        What views show of a sample, and of what the model made of it.

        It is called for a few samples after an evaluation, and may give `lepton_lab.pictures` by what they are called:
        `Text`, `Image` with boxes, `Mask`, `Sound`, `Curves` and `Bars`. All three arguments are batches of one sample:
        what the model was called with, what outputs are compared with (as `split` gives both), and what it gave. It
        must not call the model: it is called on one rank alone, where a model of several would wait for the others.
        """
        pair = self.scores(output), self.targets(y)
        scores, target = (part[0] if getattr(part, "ndim", 0) else None for part in pair)
        return {**inputs(self.inputs(y), self.data), **answer(scores, target, self.data)}

    def prepare(self, batch: Any, generator: torch.Generator) -> Any:
        """
        What is drawn anew each epoch: masks, noise, negatives, augmentation.

        It is given the whole micro-batch on the rank's device, also where this rank computes a part of it, and a
        generator there, which is the same for any world and after a resume; it begins anew with each micro-batch, so
        that what is drawn depends on `accumulate`. It may give m rows for each sample, those of one sample one after
        the other, as `repeat_interleave` does. Called in training, and in evaluations where `everywhere` says so.
        """
        return batch

    def prepare_evaluation(self, batch: Any, generator: torch.Generator) -> Any:
        """What is drawn in evaluations, where `everywhere` says that something is: as `prepare` does it."""
        return self.prepare(batch, generator)

    @property
    def prepares(self) -> bool:
        """Whether anything is drawn."""
        return type(self).prepare is not Task.prepare

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """What the engine minimises; `total` as of `Criterion`."""
        return (Stepped if self.steps() else Scored)(self, total)


def _spelling(data: Data) -> dict[str, Any]:
    """How tokens are spelled, and text becomes tokens, where neither the labels nor the kind of token tell it."""
    if not data.pieces and not data.tokenizer:
        return {}
    tokenizer = {"tokenizer": data.tokenizer} if data.tokenizer else {}
    return {"names": data.pieces or list(data.classes), "kind": data.tokens, **tokenizer}


class Paired(Task):
    """Inputs (B, ...) and targets (B, ...): batches are pairs, and the loss compares an output with a target."""

    plain = True
    places = False
    """Whether its classes are places among what is drawn for a sample: see `Criterion`."""

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        super().__init__(data, loss)
        if data.example is not None:
            raise SpecError(f"task: samples must be pairs (x, y), and batches are {described(data.example)}")

    def setup(self, model: nn.Module) -> None:
        """Refuse a model that can't be called with the one tensor that a pair has for it."""
        if not self.nests and not self.steps():
            shape = ", ".join(["B", *map(str, self.data.shape)])
            why = f"batches are pairs (x, y), of which it gets x alone, of shape ({shape})"
            takes(model, None, f"{why}: give samples that are dicts of what it takes, or a model that takes one tensor")

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The pair."""
        return batch[0], batch[1]

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The input, the target and what was predicted."""
        return {**inputs(x, self.data), **answer(output[0], y[0], self.data)}

    def usual(self) -> OwnLoss:
        """The loss where the user gives none."""
        from ..losses import usual_loss

        return usual_loss(self.data)

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss as a sum over targets and their weight."""
        criterion = Criterion(self.given or self.usual(), self.data, total)
        criterion.places = self.places
        return criterion


def takes(model: nn.Module, x: Any, why: str) -> None:
    """Refuse, with a SpecError, a model whose parameters' names say that it can't be called with x; `why` it gets x."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # of code that is not Python
        return
    names, args = (x, ()) if isinstance(x, dict) else ({}, x if isinstance(x, tuple) else (x,))
    try:
        signature.bind(*args, **names)
    except TypeError:
        asked = ", ".join(signature.parameters) or "nothing"
        raise SpecError(f"model={called(model)} takes {asked}, and {why}") from None


def targets_of(data: Data) -> Tensor:
    """The targets (2, ...) of the first two training samples of pairs, on the CPU."""
    import torch

    if isinstance(data.train, tuple):
        return data.train[1][:2]
    samples = [data.train[place] for place in range(min(2, len(data.train)))]
    return torch.stack([torch.as_tensor(y) for _, y in samples])
