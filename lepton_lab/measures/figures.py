"""What was measured and how: plain figures, their intervals, and a table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from ..metrics import MEASURED, METRICS
from ..section import escaped, in_html, in_text

TRAINED_ON = "dense, trained on as long"
"""Name of the control among the peers."""


@dataclass(frozen=True)
class Latency:
    """Times of a forward pass over one batch, in seconds."""

    median: float
    p95: float
    least: float
    most: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """From single times; p95 is the time that 95 % of them do not exceed."""
        import numpy as np

        p95 = float(np.percentile(seconds, 95, method="inverted_cdf"))
        return cls(median(seconds), p95, min(seconds), max(seconds), len(seconds))


@dataclass
class Measured:
    """
    What `lab.measure` found of one model; see there for how.

    Attributes
    ----------
    name : str
        What it is, e.g. "digits, int8_static under ONNX Runtime" or "dense, eager".
    parameters, multiply_adds : int
        Counted; multiply-adds of one sample.
    bytes : int
        On disk: of the artifact's file, or of a module's weights as safetensors.
    latency : dict
        Batch size -> Latency.
    memory : int or None
        Highest resident memory during a forward of the largest batch, less that before it, in bytes; None where the
        system does not tell.
    accuracy : float or None
        Fraction of right answers; `interval` is its Wilson 95 % interval, `samples` how many answers there were.
    metric : str
        What its answers were judged by, where a task says what that is: a name in `figures`.
    figures : dict
        Metric -> figure, of all that were counted beside accuracy.
    joules : float
        Estimate, per sample at the largest batch: CPU seconds x `watts`, a constant declared and not measured.
    conditions : dict
        threads, device, versions, warmup, repeats, watts; missing, the peers that can't be had, with the reason.
    peers : list of Measured
        What it took turns with.
    """

    name: str
    parameters: int
    bytes: int
    multiply_adds: int
    latency: dict[int, Latency] = field(default_factory=dict)
    memory: int | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    samples: int = 0
    metric: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    joules: float = 0.0
    conditions: dict[str, Any] = field(default_factory=dict)
    peers: list[Measured] = field(default_factory=list)

    def best_peer(self, batch: int) -> Measured | None:
        """The peer with the least median latency at a batch size: the one that a speed-up is claimed against."""
        return min(self.peers, key=lambda peer: peer.latency[batch].median, default=None)

    def speedup(self, batch: int) -> float | None:
        """Times faster than the best peer at a batch size, by medians; None without peers."""
        peer = self.best_peer(batch)
        return peer.latency[batch].median / self.latency[batch].median if peer else None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, as JSON takes them."""
        values = asdict(self)
        values["latency"] = {str(batch): asdict(latency) for batch, latency in self.latency.items()}
        values["interval"] = list(self.interval) if self.interval else None
        values["speedup"] = {str(batch): self.speedup(batch) for batch in self.latency} if self.peers else {}
        values["peers"] = [peer.to_dict() for peer in self.peers]
        return values

    def rows(self) -> list[dict[str, str]]:
        """A line for it and each peer, in words; the first has the speed-up against the best peer."""
        return [_row(measured, self.metric) for measured in (self, *self.peers)]

    def how(self) -> str:
        """How it was measured, in a sentence."""
        facts = self.conditions
        rounds = f"Medians of {facts['repeats']} repeats after {facts['warmup']} to warm up, in turn"
        parts = [rounds, f"{facts['threads']} thread{'s' * (facts['threads'] > 1)} of {facts['device']}"]
        parts += [f"{name} {version}" for name, version in facts["versions"].items()]
        parts += [f"{name} can't be had ({why})" for name, why in facts["missing"].items()]
        if self.accuracy is not None:
            parts.append(f"accuracy over {self.samples:,} answers, with its Wilson 95 % interval")
        if self.metric not in ("", MEASURED):
            counted = "samples" if self.accuracy is None else "answers"
            parts.append(f"{METRICS[self.metric].word()} over {self.samples:,} {counted}")
        parts.append(f"energy is an estimate: CPU seconds x {facts['watts']:g} W")
        return "; ".join(parts) + "."

    def __str__(self) -> str:
        rows = self.rows()
        return f"{in_text(rows[0], [row.values() for row in rows])}\n{self.how()}"

    def _repr_html_(self) -> str:
        rows = self.rows()
        return f"{in_html(rows[0], [row.values() for row in rows])}<p>{escaped(self.how())}</p>"


def judged(measures: Mapping[str, Any], metric: str) -> str:
    """A figure of `Measured.to_dict()` as people read it, by the name of its metric; "" where it was not counted."""
    value = figure(measures, metric)
    return "" if value is None else METRICS[metric].text(value)


def figure(measures: Mapping[str, Any], metric: str) -> float | None:
    """A figure of `Measured.to_dict()` by the name of its metric; None where it was not counted."""
    return measures.get(metric) if metric == MEASURED else (measures.get("figures") or {}).get(metric)


def of_control(measures: Mapping[str, Any], metric: str) -> float | None:
    """
    A figure of the dense model that was trained on for as long as a chain, from what a run's `measures.json` tells.

    It is the one of the same samples in the same batches as the file's, with the same draws (noise, masks, negatives),
    on which some figures depend; where it was not among the peers, that of its own evaluation.
    """
    peers = (peer for peer in measures["artifact"].get("peers", ()) if peer["name"] == TRAINED_ON)
    value = figure(next(peers, {}), metric)
    return value if value is not None else ((measures.get("control") or {}).get("test") or {}).get(metric)


def _row(measured: Measured, metric: str) -> dict[str, str]:
    row = {
        "model": measured.name,
        "parameters": f"{measured.parameters:,}",
        "bytes": f"{measured.bytes:,}",
        "multiply-adds": f"{measured.multiply_adds:,}",
    }
    for batch, latency in measured.latency.items():
        row[f"ms, batch {batch}"] = f"{latency.median * 1e3:.3g}"
        row[f"p95 ms, batch {batch}"] = f"{latency.p95 * 1e3:.3g}"
        ratio = measured.speedup(batch)
        row[f"x best peer, batch {batch}"] = f"{ratio:.2f}" if ratio else ""
    row["memory, MB"] = "" if measured.memory is None else f"{measured.memory / 1e6:.1f}"
    row[MEASURED] = ""
    if metric not in ("", MEASURED):
        value = measured.figures.get(metric)
        row[METRICS[metric].short] = "" if value is None else METRICS[metric].text(value)
    if measured.accuracy is not None and measured.interval:
        low, high = measured.interval
        row[MEASURED] = f"{measured.accuracy:.4f} ({low:.4f} to {high:.4f})"
    row["mJ a sample (estimate)"] = f"{measured.joules * 1e3:.3g}"
    return row
