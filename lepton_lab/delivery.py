"""What a chain ends in: one file that loads by itself, and what was measured of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import artifacts, shipping
from .compressors import Round
from .compressors.distill import Distill
from .compressors.quantize import Quantize
from .folders import RunFolder
from .meters import TRAINED_ON, measure
from .trained import ARTIFACT, DONE, peers, place

if TYPE_CHECKING:
    from torch import Tensor

    from .datasets import Data

MEASURES = "measures.json"  # in the run's folder


def deliver(folder: RunFolder, rounds: list[Round], data: Data) -> dict[str, Any]:
    """
    Write what a run's chain made as one file, under the scheme of its `quantize`, else in float.

    Returns
    -------
    dict
        What was measured, as `Measured.to_dict` tells it: "artifact" beside its peers, and "dense", the fastest of
        those that is the parent's module.

    Raises
    ------
    LabError
        If the module can't be written, in one sentence.
    """
    spec, path = folder.spec, folder.path / ARTIFACT
    made = [item.compressor() for item in rounds]
    student = next((c.student["model"] for c in made if isinstance(c, Distill) and "model" in c.student), spec.model)
    about = artifacts.About.of(data, student, chain=spec.compress, parent=spec.parent)
    how: dict[str, Any] = {}
    if isinstance(last := made[-1], Quantize):
        samples = raw(data, last.calibration, spec.seed) if last.calibration else None
        how = {"scheme": last.scheme, "calibration": samples, "keep": last.keep}
    file = artifacts.write(path, shipping.kept(place(folder, rounds[-1].number) / DONE), about, **how)
    dense, control = peers(folder)
    found = measure(file, data, peers=True, dense=dense, control=control)
    largest = max(found.latency)
    others = [peer for peer in found.peers if peer.name != TRAINED_ON]
    fastest = min(others, key=lambda peer: peer.latency[largest].median)
    told = {"artifact": found.to_dict(), "dense": fastest.to_dict()}
    kept = {k: v for k, v in told["artifact"].items() if k not in ("bytes", "peers")}
    artifacts.annotate(path, measured=kept)
    told["artifact"]["bytes"] = path.stat().st_size  # with these figures in it
    return told


def raw(data: Data, count: int, seed: int) -> Tensor:
    """Up to so many training samples as the data hold them, drawn at random: (count, *shape)."""
    import torch

    n = len(data.train[0]) if isinstance(data.train, tuple) else len(data.train)
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:count]
    if isinstance(data.train, tuple):
        return data.train[0][chosen]
    return torch.stack([torch.as_tensor(data.train[i][0]) for i in chosen.tolist()])
