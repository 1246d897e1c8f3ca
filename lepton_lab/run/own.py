"""What a user brings in place of names: a model, data, a loss and the like, as `launch` takes them."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import datasets, metrics, models
from ..batches import TEXTS
from ..engine import hooks, trials
from ..errors import SpecError
from ..losses import ignored, terms, weigh
from ..spec import Spec
from ..store import shipping
from ..store.folder import RunFolder
from ..strategies.base import Single
from ..tasks import Task
from ..values import called

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch import Tensor, nn

    from ..datasets import Data
    from ..engine.hooks import Hook
    from ..metrics import Metric

TARGETS = ("target", "targets", "tags")
"""Names of leaves that a loss compares outputs with, where the model does not take them."""


@dataclass
class Own:
    """
    What a user brings in place of names, as `launch` takes it; None where the spec's names tell.

    What can be seen to be no model, data, loss, strategy, task or hooks is a SpecError.
    """

    model: nn.Module | Callable[..., nn.Module] | None = None
    data: Any = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    strategy: type[Single] | None = None
    task: type[Task] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    """It travels with the data."""
    hooks: Sequence[Hook] | None = None
    metrics: Mapping[str, Callable[[Any, Any], Any] | type[Metric]] | None = None

    def __post_init__(self) -> None:
        self._read: Data | None = None
        self._made: tuple[Any, Data] | None = None
        if self.model is not None:
            _is_model(self.model)
        kind = self.strategy
        if kind is not None and not (isinstance(kind, type) and issubclass(kind, Single)):
            raise SpecError(
                f"strategy={kind!r} is no subclass of lab.Single or lab.Group; names go into Spec(strategy=...)"
            )
        if self.task is not None and not (isinstance(self.task, type) and issubclass(self.task, Task)):
            raise SpecError(f"task={self.task!r} is no subclass of lab.Task")
        if self.collate is not None and (self.data is None or not callable(self.collate)):
            why = "needs data=... whose samples it puts together" if callable(self.collate) else "can't be called"
            raise SpecError(f"collate={called(self.collate)} {why}")
        if isinstance(self.data, tuple) and not self.data:
            raise SpecError("data=() is empty: give (train, test), (train, val, test) or train")
        if self.loss is not None:
            _is_loss(self.loss)
        if self.hooks is not None:
            hooks.check(self.hooks)
        if self.metrics is not None:
            metrics.check_own(self.metrics)

    @classmethod
    def shipped(cls, folder: RunFolder) -> Own:
        """What was shipped with a run."""
        parts = shipping.unpack(folder)
        data = parts.pop("data", None)
        own = cls(**parts)
        own._read = data
        return own

    @property
    def parts(self) -> dict[str, Any]:
        """What there is, by name."""
        return {name: part for name, part in vars(self).items() if name in shipping.PARTS and part is not None}

    def splits(self, spec: Spec) -> Data | None:
        """The user's data as splits after the spec's transforms; None where they are those that the spec names."""
        data = self.raw(spec)
        if data is None or not spec.transforms:
            return data
        if self._made is None or self._made[0] != (spec.transforms, spec.seed):
            self._made = (spec.transforms, spec.seed), datasets.load(spec, data)
        return self._made[1]

    def raw(self, spec: Spec) -> Data | None:
        """The same before any transform, made when first asked for."""
        if self._read is None and self.data is not None:
            token = getattr(getattr(self.model, "config", None), "pad_token_id", None)
            pads = {} if token is None else {TEXTS: token}
            # What the model takes by these names are no targets; what its own loss leaves out isn't known.
            names = TARGETS if self.loss is not None else ()
            targets = tuple(name for name in names if name not in _asked(self.model))
            self._read = datasets.from_user(self.data, spec.seed, ignored(self.loss), self.collate, pads, targets)
        return self._read

    def bare(self, spec: Spec, data: Data) -> nn.Module | None:
        """The model without memory; None where it can't be made so."""
        maker = inspect.isroutine(self.model) or isinstance(self.model, type)
        model = self.model if maker else copy.deepcopy(self.model)
        return trials.bare(lambda: models.make(spec, data.sample, model))


def _asked(model: Any) -> Collection[str]:
    """What a model takes by name; any of TARGETS where that can't be told."""
    from torch import nn

    module = isinstance(model, nn.Module) or (isinstance(model, type) and issubclass(model, nn.Module))
    return inspect.signature(model.forward).parameters if module else TARGETS


def _is_model(model: Any) -> None:
    """Refuse what is no model, and makes none."""
    from torch import nn

    if not callable(model):
        raise SpecError(
            f"model={model!r} is no torch.nn.Module and nothing that makes one; names go into Spec(model=...)"
        )
    if isinstance(model, nn.Module):
        models.trainable(model, called(model))
    else:
        models.arguments(model)


def _is_loss(loss: Any) -> None:
    """Refuse what is no loss, or one that learns."""
    from torch import nn

    if isinstance(loss, type) or not callable(loss):
        raise SpecError(f"loss={called(loss)} can't be called with (output, target); give a function, or nn.MSELoss()")
    if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
        raise SpecError(
            f"loss={called(loss)} has parameters of its own, which nobody would train: put them into the model"
        )
    known = terms(loss)
    for label, weight in enumerate([] if known is None or known.weight is None else known.weight.tolist()):
        weigh(weight, f"loss={called(loss)}: weight[{label}]")
