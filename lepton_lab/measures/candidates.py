"""What is measured of a run, a module or a file, in one form: raw samples -> scores, with what is counted of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import tasks
from ..artifacts import About, Artifact, load, write
from ..datasets import length, rows
from ..errors import LabError
from ..host import processor
from ..store import shipping, trained
from .figures import TRAINED_ON

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..datasets import Data
    from ..tasks import Task

BF16 = ("amx_bf16", "avx512_bf16")  # what a processor says that multiplies in bfloat16


@dataclass
class Candidate:
    """One of those that take turns."""

    name: str
    forward: Callable[[Any], Any]
    """Raw samples (B, *shape) -> scores."""
    parameters: int
    bytes: int
    multiply_adds: int
    fresh: Callable[[], Callable[[Any], Any]] | None = None
    """Makes one that has computed nothing yet and so holds no memory, where the runtime would keep it."""
    one_size: bool = False
    """Whether batches of another size would have it made again."""


def of_artifact(artifact: Artifact, threads: int, name: str = "", of: str = "") -> Candidate:
    """An artifact, computing with so many threads; it is called by its run (or its model), scheme and runtime."""
    if artifact.threads != threads:
        artifact = artifact.with_threads(threads)
    figures = artifact.manifest["figures"]
    runtime = "ONNX Runtime" if artifact.runtime == "onnxruntime" else "torch"
    return Candidate(
        name or f"{of or artifact.manifest['model']}, {artifact.scheme} under {runtime}",
        artifact.forward,
        figures["parameters"],
        artifact.bytes,
        figures["multiply_adds"],
        lambda: artifact.with_threads(threads).forward,
    )


def of_module(module: nn.Module, about: About, name: str, how: str = "eager") -> Candidate:
    """A module, or one that is prepared; `how` it computes is "eager", "compiled" or "bf16"."""
    import torch
    from safetensors.torch import save

    from ..artifacts import counting
    from ..artifacts.outputs import asking
    from ..artifacts.preparing import Prepared, arrays_of, scores

    counted = module if isinstance(module, Prepared) else Prepared(module, about)
    plain = Prepared(module, about, torch.bfloat16) if how == "bf16" else counted
    tensors = {value.data_ptr(): (key, value) for key, value in plain.module.state_dict().items()}  # tied ones once
    scores(counted, about)  # names of its outputs
    run = torch.compile(plain, dynamic=False) if how == "compiled" else plain

    def computed(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return arrays_of(run(*map(torch.from_numpy, arrays)))

    forward = asking(computed, about.signature, counted.names)

    return Candidate(
        name,
        forward,
        counting.parameters(counted),
        len(save({key: value.contiguous().clone() for key, value in tensors.values()})),
        counting.multiply_adds(counted, *about.signature.flat(about.samples(1))),
        one_size=how == "compiled",
    )


def peers(dense: nn.Module, about: About, threads: int, control: nn.Module | None = None) -> list[Candidate]:
    """
    What a compressed model must be compared with: the dense one under everything that makes it fast here.

    `control` is the dense model trained on for as long as the compressed one was, `threads` are ONNX Runtime's.
    """
    from ..artifacts.preparing import Prepared

    compiler = shutil.which(os.environ.get("CXX", "g++"))  # as torch.compile looks for it
    ways = ["eager", *["compiled"] * bool(compiler), *["bf16"] * has_bf16()]
    plain = Prepared(dense, about)  # which the ways share, since all of them are in memory together
    # But bf16, since a model may keep what it computed in float32.
    candidates = [of_module(dense if how == "bf16" else plain, about, f"dense, {how}", how) for how in ways]
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dense.lepton"
            write(path, dense, about, runtime="onnxruntime")
            candidates.append(of_artifact(load(path, threads=threads), threads, "dense under ONNX Runtime"))
    except LabError:  # an operator that does not export, or no such runtime: then that peer can't be had
        pass
    if control is not None:
        candidates.append(of_module(control, about, TRAINED_ON))
    return candidates


def has_bf16() -> bool:
    """Whether this machine's processor multiplies in bfloat16."""
    return not {*BF16}.isdisjoint(processor("flags").split())


@dataclass
class Source:
    """A module; and where it is a run's, the data and what they tell of it."""

    module: nn.Module
    about: About | None = None
    data: Data | None = None
    name: str = ""
    task: Task | None = None


def source(model: Any, checkpoint: str = "last") -> Source:
    """What a module brings, or a run of which `checkpoint` says which model; LabError if it is neither."""
    import torch

    if isinstance(model, torch.nn.Module):
        return Source(model, name=type(model).__name__)
    if not hasattr(model, "spec") or not callable(getattr(model, "model", None)):
        kind = type(model).__name__
        raise LabError(f"model={str(model)[:60]!r}: must be a run or a torch module, and is of type {kind}")
    spec, module = model.spec, model.model(checkpoint)
    task = run_task(model)
    about = About.of_task(task, spec, module, chain=list(spec.compress), parent=spec.parent)
    return Source(module, about, task.data, model.name or spec.model, task)


def run_task(run: Any, data: Data | None = None) -> Task:
    """What a run was trained for, with its own loss, on its own data or on others."""
    shipped = shipping.unpack(run.store, ("loss", "task"))
    return tasks.make(run.spec, run_data(run) if data is None else data, shipped.get("loss"), shipped.get("task"))


def run_data(run: Any) -> Data:
    """The data that a run was trained on; raises what loading it does."""
    return trained.data(run.store, shipping.unpack(run.store, ("data",)).get("data"))


def some(task: Task, about: About, count: int, seed: int = 0) -> Any:
    """Raw training samples, drawn by a seed: (count, *shape), or a dict of what the task calls its model with."""
    import torch

    from ..artifacts.asking import posed, values_of

    split, generator = task.data.train, torch.Generator().manual_seed(seed)
    drawn = torch.randperm(length(split), generator=generator)[:count].sort().values.tolist()
    if not about.inputs:
        return rows(split, drawn)[0]
    return about.signature.pack(values_of(posed(task, drawn), type(task).__name__))
