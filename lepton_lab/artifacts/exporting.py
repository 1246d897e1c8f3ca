"""export(): a run's model, or a module, as a file for elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec import LabError, SpecError, pick
from .about import About
from .loading import Artifact
from .writing import write

if TYPE_CHECKING:
    import os

    from torch import Tensor, nn

CLOSE = 1e-4  # of an exported graph's scores, relative to the largest: more is no rounding in float32


def export(
    model: Any,
    path: str | os.PathLike[str],
    format: str = "lepton",
    *,
    scheme: str = "fp32",
    about: About | None = None,
    calibration: Any = None,
    keep: Sequence[str] = (),
    runtime: str = "",
) -> dict[str, Any]:
    """
    Write a model for use elsewhere, and check that the file computes what the model does.

    Parameters
    ----------
    model
        A run, or a module.
    path
        File to write.
    format
        "lepton": an artifact (see `lepton_lab.artifacts.write`); "onnx": one ONNX file; "torch": a torch.export
        program (.pt2). All take raw samples in a batch of any size, and scale them as the training did.
    scheme, calibration, keep, runtime
        Of an artifact, as `write` takes them; a run brings its own calibration data. "onnx" takes the schemes that
        ONNX Runtime runs, "torch" fp32 and bf16.
    about
        What samples are; a run knows. Of a module it is needed.

    Returns
    -------
    dict
        path, format, scheme, bytes, difference (largest between scores of the file and of the model, over made-up
        samples) and batches (sizes that it was checked with).

    Raises
    ------
    SpecError, LabError
        In one sentence: a value that is refused, or an operator that does not export, with its name and what to do.
    """
    writer = pick(FORMATS, format, "format")
    raise NotImplementedError(writer)


FORMATS: dict[str, Callable[..., Any]] = {}
