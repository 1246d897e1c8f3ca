"""What a Learner's sliders stand for: fields of Spec and options of its model, and the values that each may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lepton_lab.spec import Spec
from lepton_lab.tables import keywords, table, trait

from .about import LABELS
from .sketches import text

START: dict[str, Any] = {
    "dataset": "digits",
    "model": "mlp",
    "optimizer": "momentum",
    "lr": 0.05,
    "epochs": 10,
    "strategy": "single",
    "device": "cpu",
    "checkpoint_every": 0,
    "options": {"hidden": 32, "threads": 1},
}
"""A run of well under a second."""
VALUES: dict[str, tuple[Any, ...]] = {
    "lr": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    "batch_size": (8, 16, 32, 64, 128, 256, 512, 1024),
    "momentum": (0.0, 0.5, 0.8, 0.9, 0.95, 0.99),
    "hidden": (2, 4, 8, 16, 32, 64, 128, 256, 512),
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "weight_decay": (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
}
"""Where a slider can stand: fields of Spec, and options of models."""
NAMES = LABELS | {"hidden": "Hidden units", "dropout": "Dropout", "weight_decay": "L2 (weight decay)"}


class Knobs:
    """The sliders of a spec.

    Parameters
    ----------
    spec : Spec
        Where they stand at first; a value of its own is one that its slider can come back to.

    Attributes
    ----------
    stops : dict
        For each field the values of its slider.
    """

    def __init__(self, spec: Spec) -> None:
        self.base = spec
        values = everything(spec)
        self.stops: dict[str, list[Any]] = {"optimizer": list(table("optimizer"))}
        for field in (field for field in VALUES if field in values):
            self.stops[field] = sorted({*VALUES[field], values[field]})

    @property
    def chosen(self) -> dict[str, int]:
        """For each field the index of the value that it has at first."""
        values = everything(self.base)
        return {field: stops.index(values[field]) for field, stops in self.stops.items()}

    def spec(self, chosen: Mapping[str, int]) -> Spec:
        """The spec of some positions.

        Raises
        ------
        SpecError
            If their values can't go together.
        """
        values = {field: self.stops[field][index] for field, index in chosen.items()}
        options = {field: values.pop(field) for field in list(values) if field not in Spec.model_fields}
        return self.base.replace(**values, options={**self.base.options, **options})

    def values(self, spec: Spec) -> dict[str, Any]:
        """Of a spec what the sliders stand for."""
        values = everything(spec)
        return {field: values[field] for field in self.stops}

    def controls(self) -> list[dict[str, Any]]:
        """What the page needs to draw each: a slider, or a list where values have no order."""
        return [
            {
                "field": field,
                "label": NAMES[field],
                "texts": [text(value) for value in stops],
                "ordered": field in VALUES,
                "tooltip": (Spec.model_fields.get(field) or self._option(field)).description or "",
                "needs": _needs(field),
            }
            for field, stops in self.stops.items()
        ]

    def _option(self, field: str) -> Any:
        return keywords(table("model")[self.base.model])[field]


def _needs(field: str) -> dict[str, Any] | None:
    """Which choices of another field know this one, where not all do."""
    if field != "momentum":
        return None
    return {"field": "optimizer", "among": [name for name in table("optimizer") if trait("optimizer", name, field)]}


def everything(spec: Spec) -> dict[str, Any]:
    """Fields and options that hold, by name."""
    return {**spec.to_dict(), **spec.known_options()}
