"""What a search is to keep within, and what of a run's measures that is held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import SpecError, unknown
from ..measures.figures import figure, of_control
from ..metrics import MEASURED, METRICS
from ..section import NONE

if TYPE_CHECKING:
    from ..run.handle import Run

BUDGET = {
    "bytes": "bytes of the file",
    "latency": "seconds for a batch of 64",
    "latency_1": "seconds for a batch of 1",
    "accuracy_drop": "accuracy below the dense control's, fraction",
    "quality_drop": "worse than the dense control by the metric of the run's task, in its unit",
}
DROPS = ("accuracy_drop", "quality_drop")
BOUNDS = {"accuracy_drop": (0.0, 1.0, "from 0 to 1"), "quality_drop": (0.0, 1e300, "of 0 or more")}


def check(budget: Any) -> None:
    """Refuse, with a SpecError, limits that are none."""
    if not isinstance(budget, Mapping) or not budget:
        raise SpecError(f"budget={budget!r}: must hold at least one of {', '.join(BUDGET)}")
    for name, limit in budget.items():
        if name not in BUDGET:
            raise SpecError(f"budget={{{name!r}: {limit!r}}}: {unknown('limit', str(name), BUDGET)}")
        low, high, bounds = BOUNDS.get(name, (1e-12, 1e300, "above 0"))
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not low <= limit <= high:
            raise SpecError(f"budget={{{name!r}: {limit!r}}}: must be a number {bounds} ({BUDGET[name]})")


def suits(budget: Mapping[str, float], parent: Run) -> None:
    """Refuse a limit to what answers lose that are not right or wrong."""
    counted = parent.facts.get("classes") or any(row.get(MEASURED) is not None for row in parent.rows("eval"))
    if "accuracy_drop" not in budget or counted:
        return
    task = parent.facts.get("task")
    of = "a regression" if task == "regression" else f"of task {task!r}"
    raise SpecError(
        f"budget={{'accuracy_drop': {budget['accuracy_drop']!r}}}: run {parent.id!r} is {of}, whose answers are not "
        "right or wrong; limit quality_drop, bytes or latency"
    )


def judged_by(model: Mapping[str, Any]) -> tuple[str, float | None]:
    """What a measured model's answers were judged by, and the figure."""
    name = model.get("metric") or MEASURED
    return name, figure(model, name)


def values(measures: Mapping[str, Any]) -> dict[str, float]:
    """What a budget limits, by name of BUDGET, from a run's `measures.json`: artifact, dense and control."""
    artifact = measures["artifact"]
    figures = {"bytes": float(artifact["bytes"])}
    for name, batch in (("latency", "64"), ("latency_1", "1")):
        if batch in artifact["latency"]:
            figures[name] = artifact["latency"][batch]["median"]
    if (whole := _dense(measures, MEASURED)) is not None and artifact.get(MEASURED) is not None:
        figures["accuracy_drop"] = whole - artifact[MEASURED]
    name, quality = judged_by(artifact)
    dense = _dense(measures, name)
    if quality is not None and dense is not None:
        figures["quality_drop"] = dense - quality if METRICS[name].higher else quality - dense
    return figures


def _dense(measures: Mapping[str, Any], metric: str) -> float | None:
    """A figure of the dense control, or of the dense model as it was where there is no control."""
    value = of_control(measures, metric)
    return value if value is not None else figure(measures["dense"], metric)


def shown(name: str, value: float | None) -> str:
    """A figure of a budget as people read it."""
    if value is None:
        return NONE
    if name == "bytes":
        return f"{value:,.0f}"
    if name == "quality_drop":
        return f"{value:.4g}"
    return f"{value:.2%}" if name == "accuracy_drop" else f"{value * 1e3:.3g} ms"
