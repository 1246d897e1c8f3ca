"""estimate(): what a chain would make of a run's model, before it runs: counted where it can be, else predicted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import errors
from ..artifacts import About, schemes
from ..datasets import length
from ..files import read_json
from ..measures import latency, sizes
from ..measures.candidates import run_task
from ..section import escaped, in_html, in_text
from ..spec import Spec
from ..store.folder import MEASURES
from ..store.trained import parent_facts
from ..tables import meant, table, trait
from .handle import Run, attach
from .launching import chained

if TYPE_CHECKING:
    from torch import nn

BATCHES = (1, 64)
"""Batch sizes whose latency is predicted."""
LABELS = {"parameters": "parameters", "multiply_adds": "multiply-adds", "bytes": "bytes of the file"}


@dataclass(frozen=True)
class Estimate:
    """
    What a chain would make of a model.

    Attributes
    ----------
    chain : list of dict
        In its canonical form; empty for the model as it is.
    scheme, runtime : str
        How its artifact would compute.
    parameters, multiply_adds : int
        Counted on a copy of the model from which the chain removed what it would remove; multiply-adds of one sample.
    bytes : int
        Of the artifact.
    latency : dict
        Batch size -> seconds of a forward pass by one thread: a prediction, see `lepton_lab.measures.latency`.
    dense : Estimate or None
        The same of the model as it is.
    """

    chain: list[dict[str, Any]]
    scheme: str
    runtime: str
    parameters: int
    multiply_adds: int
    bytes: int
    latency: dict[int, float] = field(default_factory=dict)
    dense: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        values = {name: getattr(self, name) for name in ("chain", "scheme", "runtime", *LABELS)}
        values["latency"] = {str(batch): seconds for batch, seconds in self.latency.items()}
        return values | {"dense": self.dense.to_dict() if self.dense else None}

    def figures(self) -> dict[str, float]:
        """Every figure by its name, latencies as "latency 64"."""
        counted = {name: getattr(self, name) for name in LABELS}
        return counted | {f"latency {batch}": seconds for batch, seconds in self.latency.items()}

    def errors(self, measured: Mapping[str, Any]) -> dict[str, float]:
        """
        By how much each figure is off from what was measured, relative: 0.02 is two percent too high.

        Parameters
        ----------
        measured
            As `Measured.to_dict()` gives it.
        """
        truth = figures(measured)
        return {name: value / truth[name] - 1 for name, value in self.figures().items() if truth.get(name)}

    def rows(self) -> list[list[str]]:
        """Lines of a table: the figure, the dense model's, this one's, and how many times less that is."""
        dense = (self.dense or self).figures()
        return [
            [label(name), shown(name, dense[name]), shown(name, value), f"{dense[name] / value:.3g}x"]
            for name, value in self.figures().items()
        ]

    def __str__(self) -> str:
        return f"{in_text(HEADS, self.rows())}\n{NOTE}"

    def _repr_html_(self) -> str:
        return f"{in_html(HEADS, self.rows())}<p>{escaped(NOTE)}</p>"


HEADS = ("", "as it is", "estimate", "less")
NOTE = (
    "Nothing was run: parameters and multiply-adds are counted, bytes follow from the shapes, and latency is a "
    "prediction, of one thread."
)


@dataclass(frozen=True)
class Dense:
    """A model before compression, and what its manifest would say."""

    module: nn.Module
    about: About
    sample: Any = None
    """Two samples as the model is called with them, where that is not one tensor (2, *shape)."""

    def figures(self, batches: tuple[int, ...]) -> Estimate:
        """What it is itself."""
        return _counted(self, [], "fp32", (), batches)

    def compressed(self, spec: Spec, batches: tuple[int, ...]) -> Estimate:
        """What a spec's chain would make of it, beside what it is."""
        from ..compressors import rehearse

        about = self.about
        made = rehearse(self.module, spec, tuple(about.shape), len(about.labels), about.vocabulary, self.sample)
        name, options = next(iter(spec.compress[-1].items()))
        last = table("compressor")[name](**options)  # it says how the artifact computes
        ended = dataclasses.replace(
            self, module=made, about=dataclasses.replace(about, chain=spec.compress, parent=spec.parent)
        )
        smaller = _counted(ended, spec.compress, last.scheme, tuple(last.keep), batches)
        return dataclasses.replace(smaller, dense=self.figures(batches))


def estimate(run: Run | str, chain: Any = (), *, batches: Sequence[int] = BATCHES, **changes: Any) -> Estimate:
    """
    What a chain would make of a run's model, in milliseconds and without a run.

    The chain is applied to a copy of the model, by the shapes alone: nothing is read or trained. The first call for a
    run loads its model, which takes longer.

    Parameters
    ----------
    run
        The parent, or its id.
    chain
        As `compress` takes it; () = the model as it is.
    batches
        Batch sizes of the predicted latencies.
    **changes
        Fields of the parent's spec to change, as for `compress`.

    Raises
    ------
    SpecError, LabError
        What `compress` would refuse, in the same sentence.
    """
    chosen = errors.sizes("batches", batches)
    parent = attach(run)
    dense = _parent(parent.id, _version(parent))
    if not chain:
        return dense.figures(chosen)
    return dense.compressed(chained(parent, chain, changes), chosen)


def estimated(child: Run) -> Estimate | None:
    """What `estimate` tells of the chain of a run that compresses, LabError included; None where its parent is gone."""
    from ..store.trained import adopted

    if not child.spec.compress or (held := adopted(child.folder)) is None:
        return None
    module, facts = held
    return _dense(child, module.eval(), facts).compressed(child.spec, BATCHES)


def measured(child: Run) -> dict[str, Any]:
    """What was measured of a run that compressed: `artifact`, `dense` and `control`; {} before its end."""
    return read_json(child.folder / MEASURES) or {}


def figures(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured of a model, under the names that `Estimate.figures` has; None where it was not."""
    timings = measured.get("latency", {}).items()
    return {name: measured.get(name) for name in LABELS} | {f"latency {n}": timing["median"] for n, timing in timings}


def label(name: str) -> str:
    """What people read for a figure's name."""
    return LABELS.get(name) or name.replace("latency ", "ms, batch ") + " (predicted)"


def shown(name: str, value: float | None) -> str:
    """A figure as people read it."""
    if value is None:
        return "–"
    return f"{value * 1e3:.3g}" if name.startswith("latency") else f"{value:,.0f}"


def _counted(
    model: Dense, chain: list[dict[str, Any]], scheme: str, keep: tuple[str, ...], batches: tuple[int, ...]
) -> Estimate:
    """The figures of a model as an artifact of a scheme, whose layers in `keep` stay in floats."""
    from ..compressors.rehearsal import example

    module, about = model.module, model.about
    runtime = schemes.SCHEMES[scheme].runtimes[0]
    sample = example(module, about.shape, about.vocabulary)[:1] if model.sample is None else _asked(about)
    counts = latency.work(module, sample)
    parameters = sum(p.numel() for p in module.parameters())
    size = sizes.predict(module, about, scheme, runtime, counts, keep)
    predicted = {batch: latency.predict(counts, scheme, runtime, batch) for batch in batches}
    times = {batch: seconds for batch, seconds in predicted.items() if seconds is not None}
    return Estimate(chain, scheme, runtime, parameters, counts.multiply_adds, size, times)


def _about(model: str, shape: Sequence[int], classes: list[str], vocabulary: int, tokens: str) -> About:
    """What a manifest will say, as far as its length matters."""
    kind = "int64" if vocabulary else "uint8" if len(shape) == 3 else "float32"
    scales: dict[str, Any] = {"mean": (0.1307,), "std": (0.3081,)} if kind == "uint8" else {}
    return About(model, tuple(shape), kind, [str(name) for name in classes], vocabulary, tokens, **scales)


def _version(run: Run) -> str:
    """What changes when there is another module."""
    folder = run.folder
    saved = sorted(path.parent.name for path in folder.glob("checkpoints/*/complete"))
    return f"{folder} {saved[-1:]} {len(list(folder.glob('links/*/done.pt')))}"


@functools.lru_cache(maxsize=4)
def _parent(id: str, version: str) -> Dense:
    """A run's model and what it was told of its data; kept, since a form asks again and again."""
    from ..compressors.layers import unparametrized

    run = attach(id)
    facts = run.facts
    return _dense(run, unparametrized(run.model()), facts if "shape" in facts else parent_facts(run.folder))


def _dense(run: Run, module: nn.Module, facts: Mapping[str, Any]) -> Dense:
    """A module of a run, of whose data some facts are known; of one that is called with more, two of its samples."""
    spec = run.spec
    task = meant(spec.task, spec.dataset)
    more = trait("task", task, "nests") is True or trait("task", task, "players")
    if facts["shape"] and not run.facts.get("batch") and not more:
        vocabulary, tokens = facts.get("vocabulary", 0), facts.get("tokens", "")
        return Dense(module, _about(spec.model, facts["shape"], facts["classes"], vocabulary, tokens))
    from ..artifacts.asking import posed
    from ..artifacts.preparing import Prepared, scores

    own = run_task(run)
    about = About.of_task(own, spec, module)
    scores(Prepared(module, about), about)  # refuses what no file can hold
    return Dense(module, about, None if own.takes_raw else posed(own, range(min(2, length(own.data.train)))))


def _asked(about: About) -> Any:
    """One sample as a model is called with it, as long as those that its file is measured on."""
    import torch

    signature = about.signature
    values = [torch.from_numpy(array) for array in signature.flat(signature.made_up(1))]
    return signature.question([value.float() if value.dtype == torch.uint8 else value for value in values])
