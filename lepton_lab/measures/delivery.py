"""What a chain ends in: one file that loads by itself, and what is measured of it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import artifacts, host
from ..compressors import Round
from ..errors import LabError
from ..spec import CELL
from ..store import shipping
from ..store.folder import RunFolder
from ..store.trained import ARTIFACT, DONE, peers, place
from . import TRAINED_ON, measure
from .candidates import some

if TYPE_CHECKING:
    from torch import nn

    from ..tasks import Task


def deliver(folder: RunFolder, rounds: list[Round], task: Task) -> dict[str, Any]:
    """
    Write what a run's chain made as one file, under the scheme of its `quantize`, else in float.

    Gives `Measured.to_dict()` of "artifact", with its peers, and of "dense", the fastest that is the parent's module.
    Raises LabError, in one sentence, where the module can't be written.
    """
    spec, path = folder.spec, folder.path / ARTIFACT
    links = [item.compressor() for item in rounds]
    student = next((link.student["model"] for link in links if "model" in link.student), spec.model)
    module = shipping.kept(place(folder, rounds[-1].number) / DONE)
    about = artifacts.About.of_task(task, spec, module, model=student, chain=spec.compress, parent=spec.parent)
    last = links[-1]
    samples = some(task, about, last.calibration, spec.seed) if last.calibration else None
    runtimes = artifacts.SCHEMES[last.scheme].runtimes
    host.release_memory()  # of training
    _written(path, module, about, last.scheme, runtimes, calibration=samples, keep=last.keep)
    dense, control = peers(folder)
    measured = measure(path, task, peers=True, dense=dense, control=control)
    largest = max(measured.latency)
    others = [peer for peer in measured.peers if peer.name != TRAINED_ON]
    fastest = min(others, key=lambda peer: peer.latency[largest].median)
    figures = {"artifact": measured.to_dict(), "dense": fastest.to_dict()}
    artifacts.annotate(path, measured={k: v for k, v in figures["artifact"].items() if k not in ("bytes", "peers")})
    figures["artifact"]["bytes"] = path.stat().st_size  # with these figures in it
    return figures


def rehearse(folder: RunFolder, rounds: list[Round], task: Task) -> None:
    """
    Write the parent's module as the chain's will be, so that what does not go into a file is known before any training.

    Models of the table all do, and are left out; so are chains that end in another model than they begin with. Raises
    what `deliver` would.
    """
    links = [item.compressor() for item in rounds]
    if not folder.spec.model.startswith(CELL) or any(link.student for link in links):
        return
    last = artifacts.SCHEMES[links[-1].scheme]
    scheme = "fp32" if last.calibrated else links[-1].scheme
    dense = peers(folder)[0]
    about = artifacts.About.of_task(task, folder.spec, dense)
    with tempfile.TemporaryDirectory() as draft:
        _written(Path(draft) / ARTIFACT, dense, about, scheme, last.runtimes)


def _written(
    path: Path, module: nn.Module, about: artifacts.About, scheme: str, runtimes: tuple[str, ...], **how: Any
) -> None:
    """Write an artifact under the first of the runtimes that can run the module."""
    first, *others = runtimes
    try:
        artifacts.write(path, module, about, scheme, runtime=first, **how)
    except LabError as error:
        for runtime in others:
            with contextlib.suppress(LabError):
                artifacts.write(path, module, about, scheme, runtime=runtime, **how)
                return
        raise error
