"""write(): from a module to an artifact."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec import LabError, SpecError
from . import container, manifest, schemes
from .about import About

if TYPE_CHECKING:
    import os

    import numpy as np
    import onnx
    from torch import Tensor, nn

    from .loading import Artifact

CHECKED = 3  # made-up samples that every artifact is held to its module on
CLOSE = 1e-2  # of the largest score: farther off is no rounding of 32-bit floats


def write(
    path: str | os.PathLike[str],
    module: nn.Module,
    about: About,
    scheme: str = "fp32",
    calibration: Tensor | np.ndarray | None = None,
    keep: Sequence[str] = (),
    runtime: str = "",
) -> Artifact:
    """
    Write a module as one file that loads without the code that defined it.

    Parameters
    ----------
    path
        File to write; by custom it ends in .lepton.
    module
        What to write; it is copied, and left as it is.
    about
        What goes in, what comes out, where it came from.
    scheme
        One of SCHEMES.
    calibration
        Raw samples (N, *shape), for int8_static.
    keep
        Layers that stay in floats, by name, for int8_static and int8_dynamic.
    runtime
        "onnxruntime" or "torch"; "" takes the faster one that can.

    Returns
    -------
    Artifact
        The file, loaded.

    Raises
    ------
    SpecError
        If a scheme, runtime, layer or calibration is refused.
    LabError
        If the module can't be written, in one sentence that says what in it and what to do.
    """
    import torch

    path = Path(path)
    chosen = schemes.check(scheme, runtime)
    samples = calibrated(calibration, about) if schemes.SCHEMES[scheme].calibrated else None
    if keep and scheme not in ("int8_static", "int8_dynamic"):
        raise SpecError(f"keep={list(keep)!r}: only int8_static and int8_dynamic leave layers in floats, not {scheme}")
    from . import counting
    from .loading import Artifact
    from .preparing import Prepared, traced

    with torch.no_grad():
        plain = Prepared(module, about)
        program = traced(plain, about)
        figures = {
            "parameters": counting.parameters(plain),
            "multiply_adds": counting.multiply_adds(plain, about.samples(1)),
        }
        expected = plain(about.samples(CHECKED)).numpy()
        about = dataclasses.replace(about, labels=_labels(about.labels, expected.shape))
        if chosen == "torch":
            if scheme == "bf16":
                program = traced(Prepared(module, about, torch.bfloat16), about)
            graph, weights = _torch(program, scheme, about)
        else:
            graph, weights = _onnx(program, scheme, about, samples, tuple(keep))
    draft = manifest.build(about, scheme, chosen, tuple(keep), figures, expected, 0.0)
    made = Artifact._of(path, draft, graph, weights)
    scores = made.forward(about.samples(CHECKED).numpy())
    error = float(abs(scores - expected).max())
    if scheme == "fp32" and error > CLOSE * max(1.0, float(abs(expected).max())):
        raise LabError(
            f"model={about.model!r}: {chosen} computes something else, off by {error:.2g} of scores up to "
            f"{float(abs(expected).max()):.2g}; write it with runtime={_other(chosen)!r}"
        )
    told = manifest.build(about, scheme, chosen, tuple(keep), figures, scores, error)
    container.pack(path, told, graph, weights)
    return Artifact.read(path)


def _labels(names: list[str], shape: tuple[int, ...]) -> list[str]:
    """A name for each score: a model may tell more classes apart than its data have, and one score names none."""
    count = shape[-1] if len(shape) > 1 else 1
    return [*names, *map(str, range(len(names), count))] if names and count > 1 else []


def _other(runtime: str) -> str:
    return next(name for name in schemes.RUNTIMES if name != runtime)


def _torch(program: Any, scheme: str, about: About) -> tuple[bytes, bytes]:
    from safetensors.torch import save

    from . import graph

    told, tensors = graph.to_json(program, about.model)
    weights = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    if scheme == "int8_weights":
        import torch

        arrays = schemes.shrink({name: tensor.numpy() for name, tensor in weights.items()})
        weights = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items()}
    return json.dumps(told, separators=(",", ":")).encode(), save(weights)


def _onnx(
    program: Any, scheme: str, about: About, samples: np.ndarray | None, keep: tuple[str, ...]
) -> tuple[bytes, bytes]:
    import numpy as np
    from safetensors.numpy import save

    from . import onnx_graph

    model, floats = onnx_of(program, scheme, about, samples, keep)
    onnx_graph.slim(model)
    graph, weights, axes = onnx_graph.split(model)
    if scheme != "fp32":  # what is not computed in integers, such as an embedding, is still stored as such
        kept = {name: weights.pop(name) for name in floats & weights.keys()}
        weights = schemes.shrink(weights, axes) | kept
    return graph, save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def onnx_of(
    program: Any,
    scheme: str,
    about: About,
    samples: np.ndarray | None,
    keep: tuple[str, ...],
    elsewhere: bool = False,
) -> tuple[onnx.ModelProto, set[str]]:
    """A program as ONNX in a scheme, for sessions of ours or elsewhere; and names of weights that stay in floats."""
    from . import folding, onnx_graph, quantizing

    model = onnx_graph.from_program(program, about.model)
    folding.fold_scaling(model)
    if scheme == "int8_static":
        assert samples is not None
        return quantizing.static(model, samples, about, keep, elsewhere)
    return quantizing.dynamic(model, keep) if scheme == "int8_dynamic" else (model, set())


def calibrated(given: Any, about: About) -> np.ndarray:
    """Calibration samples as an array of what the model takes, or the sentence on what is wrong with them."""
    from .checking import checked

    if given is None or not len(given):
        raise SpecError("calibration=None: scheme='int8_static' needs raw samples to see how large activations get")
    try:
        return checked(given, about.shape, about.dtype, about.vocabulary)[0]
    except LabError as error:
        raise SpecError(f"calibration: {error}") from None
