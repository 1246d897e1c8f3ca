"""Trainer: train a module in place over processes, in two lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import LabError, SpecError
from ..metrics import drawn
from ..spec import Spec
from .launching import launch
from .progress import display

if TYPE_CHECKING:
    from torch import nn

    from .handle import Run


class Trainer:
    """
    Train a module over `num_nodes` processes and wait for it.

    Parameters
    ----------
    num_nodes
        Number of processes; each computes its part of every batch.
    **fields
        Further fields of `Spec`, such as `optimizer` or `lr`; `metrics` may also be your own, as `launch` takes them.

    Attributes
    ----------
    run : Run
        The last run, once `fit` was called.
    train_results : dict
        train_loss and train_accuracy (fraction): means over the last epoch's batches, as they were while training.
    """

    def __init__(self, num_nodes: int = 1, **fields: Any) -> None:
        self.num_nodes = num_nodes
        self.fields = fields
        self.run: Run | None = None
        self.train_results: dict[str, float] = {}

    def __repr__(self) -> str:
        fields = {"num_nodes": self.num_nodes, **self.fields}
        arguments = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        results = "".join(f", {name} {value:.4g}" for name, value in self.train_results.items())
        outcome = f"run {self.run.id}, {self.run.state}{results}" if self.run else "not fitted yet"
        return f"<Trainer({arguments}): {outcome}>"

    def fit(self, model: nn.Module, train_dataset: Any, batch_size: int = 100, epochs: int = 10) -> Trainer:
        """
        Train `model` in place; blocks until it is done, and shows progress: on stderr, or in a notebook as a live view.

        Parameters
        ----------
        model
            A module; it holds the trained weights afterwards.
        train_dataset
            A map-style Dataset or a pair (x, y) of tensors or arrays; a tenth of it is held out for validation.
        batch_size
            Samples per step over all processes.
        epochs
            Passes over the data.

        Raises
        ------
        SpecError
            Before training: of a model that is no module, of no data, or of a value that `launch` refuses.
        LabError
            If training failed or was stopped.
        """
        _check(model, train_dataset)
        fields = {"world": self.num_nodes, "batch_size": batch_size, "epochs": epochs, **self.fields}
        own = fields.pop("metrics") if isinstance(fields.get("metrics"), Mapping) else None
        spec = Spec(**fields)
        self.run = finished(launch(spec, model=model, data=train_dataset, metrics=own))
        model.load_state_dict(self.run.model().state_dict())
        last = [row for row in self.run.rows("eval") if row["split"] == "train"][-1]
        self.train_results = {f"train_{name}": last[name] for name in drawn(last, spec.metrics)}
        return self


def finished(run: Run) -> Run:
    """The run, shown and waited for; LabError where it failed or was stopped."""
    display(run)
    if (state := run.wait()) != "done":
        raise LabError(f"run {run.id!r} is {state}" + (f": {run.failure}" if run.failure else ""))
    return run


def _check(model: Any, train_dataset: Any) -> None:
    """Refuse what can't be trained in place."""
    import torch

    if not isinstance(model, torch.nn.Module):
        name = getattr(model, "__name__", None) or repr(model)[:60]
        call = f", such as {name}()" if isinstance(model, type) and issubclass(model, torch.nn.Module) else ""
        raise SpecError(
            f"model={name}: fit trains a module in place and needs the module itself{call}; lab.launch takes a class "
            "or a function that makes one"
        )
    if train_dataset is None:
        raise SpecError("train_dataset=None: give a Dataset or (x, y); a data set by name goes into lab.launch")
