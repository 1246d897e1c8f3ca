"""The contract of a compressor, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..objectives import Criterion
from ..spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..batches import Batch
    from ..losses import Loss
    from ..objectives import Objective

Epochs = Annotated[int | None, Field(ge=0)]
"""Passes over the training data after a compressor was applied; None takes the spec's `epochs`, 0 has none."""


@dataclass(frozen=True)
class Knob:
    """The option of a compressor that matters most: one of some values, a fraction, or none but to have it or not."""

    title: str
    about: str = ""
    option: str = ""
    """Its name; "" where there is only the choice to have the link or not."""
    low: float = 0.0
    high: float = 0.0
    """Fractions between which a search tries it."""
    choices: Mapping[Any, str] = field(default_factory=dict)
    """What each of its values means, in words."""
    without: str = ""
    """What a form calls it to have none of the choices; "" where one of them always holds."""
    beside: Knob | None = None
    """Another option of the same link, which a form shows after this one."""


@dataclass(frozen=True)
class Work:
    """
    What a compressor may look at beside the module.

    A rehearsal has no samples: then what is chosen by them is chosen by the weights alone, which leaves every shape as
    it would be.
    """

    spec: Spec
    shape: tuple[int, ...]
    classes: int
    vocabulary: int
    """Kinds of tokens; like `shape` (of a sample) and `classes`, as the models of MODELS take them."""
    example: Any
    """Two samples as the model is called with them, see `batches.call`; their values mean nothing."""
    loss: Loss | None = None
    draw: Callable[[int], Iterator[Batch]] | None = None
    """Up to so many of the training batches, on the CPU, always the same."""
    parent: Callable[[], nn.Module] | None = None
    """A copy of the parent's module, on the CPU: the teacher."""
    before: Callable[[], nn.Module] | None = None
    """The module as it was when the first round of this link began."""
    round: int = 1
    """Which of the link's `rounds` is at hand, from 1."""
    device: torch.device | None = None
    """Where the fine-tuning computes."""

    @property
    def criterion(self) -> Criterion:
        """The loss of labels, as a sum over what a batch weighs."""
        assert self.loss is not None, "a rehearsal has none"
        return self.loss if isinstance(self.loss, Criterion) else Criterion(self.loss)

    @property
    def rehearsal(self) -> bool:
        """Whether only the shapes matter."""
        return self.draw is None


class Compressor:
    """
    A module goes in, and one of the same inputs and outputs comes out that is to need less.

    The others override what they change of `refuse`, `forbids`, `apply`, `objective`, `finish` and the attributes.
    An instance is made for each link of a chain and process; all that has to survive is in the module.
    """

    knob: ClassVar[Knob | None] = None
    """What of it a search tries and a form shows; None of one that makes nothing smaller."""
    last = False
    """Whether it can only end a chain."""
    keeps_zeros = False
    """Whether weights that are zero stay so in it, and in the fine-tuning after it."""
    labels = True
    """Whether the fine-tuning after it looks at the labels."""
    compares = False
    """Whether answers are compared with a teacher's, as one tensor."""
    stays = False
    """Whether what its fine-tuning minimises is minimised in that of later links, too, where they say nothing else."""
    student: Mapping[str, Any] = {}
    """The model, by its name and options, that it puts in place of the chain's; empty where it keeps that."""
    scheme = "fp32"
    """How the file of a chain that it ends stores numbers and computes, a name of SCHEMES."""
    calibration = 0
    """Training samples on which the file's scheme measures the ranges of activations."""
    keep: Sequence[str] = ()
    """Layers that the file's scheme leaves in floats."""
    rounds = 1
    """How often it is applied, with fine-tuning after each."""
    trains = True
    """Whether it is followed by fine-tuning where `epochs` were not given."""

    def __init__(self, *, epochs: Epochs = None) -> None:
        self.epochs = epochs
        self.notes: dict[str, Any] = {}
        """What `apply` has to say, such as the layers that it left and why; it goes into the run's events."""

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """
        Why it can't do what is asked for, as one sentence; "" where it can. Imports no torch.

        Parameters
        ----------
        options
            Those that it was given, checked one by one.
        before
            Name and options of the links before it in the chain.
        spec
            What the whole run is asked to do.
        """
        return ""

    def progress(self, round: int) -> float:
        """How much of its ratio is reached after a round, counted from 1 (Zhu and Gupta, arXiv:1710.01878)."""
        return 1 - (1 - round / self.rounds) ** 3

    def too_many(self, link: str, spec: Spec) -> str:
        """The sentence for more rounds than epochs; "" where there are enough."""
        epochs = spec.epochs if self.epochs is None else self.epochs
        if self.rounds <= max(epochs, 1):
            return ""
        return (
            f"compress={{{link!r}: {{'rounds': {self.rounds}}}}}: each round is followed by an epoch at least, and "
            f"there are {epochs}; take rounds={max(epochs, 1)}, or more epochs"
        )

    def forbids(self, after: Compressor) -> str:
        """Why another link can't come after this one, as the end of a sentence; "" where it can."""
        return ""

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """
        Change a module on the CPU, in place or not; what comes back is fine-tuned.

        Raises
        ------
        SpecError
            If nothing can be done, in one sentence.
        """
        return model

    def objective(self, model: nn.Module, work: Work) -> Objective | None:
        """What the fine-tuning minimises, where that is more than the loss; `model` is placed already."""
        return None

    def finish(self, model: nn.Module) -> nn.Module:
        """Take out of a module on the CPU what only the fine-tuning needed."""
        return model
