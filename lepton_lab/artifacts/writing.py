"""write(): from a module to an artifact."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..answers import class_axis
from ..errors import LabError, SpecError
from . import container, manifest, schemes
from .about import About
from .checking import taken
from .inputs import count
from .outputs import distance, told

if TYPE_CHECKING:
    import os

    import numpy as np
    import onnx
    from torch import Tensor, nn

    from .loading import Artifact
    from .preparing import Prepared


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
        File to write, usually named .lepton.
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
    from .preparing import HELD, Prepared, floats, hold, scores, traced

    with torch.no_grad():
        own = Prepared(module, about)
        expected = scores(own, about)
        plain = floats(own, about)
        program = traced(Prepared(module, about, torch.bfloat16) if scheme == "bf16" else plain, about)
        figures = {
            "parameters": counting.parameters(plain),
            "multiply_adds": counting.multiply_adds(plain, *about.signature.flat(about.samples(1))),
        }
        if not isinstance(expected, (dict, list)):
            about = dataclasses.replace(about, labels=_labels(about, expected.shape))
        if chosen == "torch":
            graph, weights = _torch(program, scheme, about)
        else:
            graph, weights = _onnx(program, scheme, about, samples, tuple(keep), plain)
        outputs = told(expected, scores(own, about, 3) if about.signature.open else expected)
    build = functools.partial(manifest.build, about, scheme, chosen, tuple(keep), figures, outputs=outputs)
    draft = Artifact._of(path, build(expected, 0.0), graph, weights)
    got = draft.forward(about.signature.made_up(HELD))
    if scheme in ("fp32", "bf16", "shared"):
        coarse = torch.bfloat16 if scheme == "bf16" else None
        hold(draft.forward, own if coarse else plain, about, f"{scheme} under {chosen}", coarse)
    container.pack(path, build(got, distance(got, expected)), graph, weights)
    return Artifact.read(path)


def _labels(about: About, shape: tuple[int, ...]) -> list[str]:
    """A name for each class, of which a model may tell more apart than its data have; none where no class is scored."""
    names = about.labels
    axis = class_axis(shape, classes=len(names), tokens=about.dtype == "int64") if names else None
    return [] if axis is None else [*names, *map(str, range(len(names), shape[axis]))]


def _torch(program: Any, scheme: str, about: About) -> tuple[bytes, bytes]:
    from safetensors.torch import save

    from . import coding, graph

    calls, tensors = graph.to_json(program, about.model)
    weights = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    if scheme in ("int8_weights", "shared"):
        import torch

        arrays = {name: t.numpy() for name, t in weights.items() if t.dtype == torch.float32}
        stored = {schemes.CODED: coding.pack(arrays)} if scheme == "shared" else schemes.shrink(arrays)
        shrunk = {name: torch.from_numpy(array.copy()) for name, array in stored.items()}
        weights = {name: t for name, t in weights.items() if name not in arrays} | shrunk
    return json.dumps(calls, separators=(",", ":")).encode(), save(weights)


def _onnx(
    program: Any, scheme: str, about: About, samples: np.ndarray | None, keep: tuple[str, ...], plain: Prepared
) -> tuple[bytes, bytes]:
    import numpy as np
    from safetensors.numpy import save

    from . import onnx_graph

    model, floats = onnx_of(program, scheme, about, samples, keep, plain)
    onnx_graph.slim(model)
    graph, weights, axes = onnx_graph.split(model)
    if scheme != "fp32":  # what is not computed in integers, such as an embedding, is still stored as such
        in_floats = {name: weights.pop(name) for name in floats & weights.keys()}
        weights = schemes.shrink(weights, axes) | in_floats
    return graph, save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def onnx_of(
    program: Any,
    scheme: str,
    about: About,
    samples: np.ndarray | None,
    keep: tuple[str, ...],
    plain: Prepared,
    elsewhere: bool = False,
) -> tuple[onnx.ModelProto, set[str]]:
    """
    A program as ONNX in a scheme, for sessions of ours or `elsewhere`; and names of weights that stay in floats.

    Before its numbers are made smaller it is held to `plain`, which `floats` gave. Raises SpecError where a layer of
    `keep` is not there, LabError where the program does not export, run, or compute the same.
    """
    from . import folding, onnx_graph, quantizing
    from .preparing import hold

    model = onnx_graph.from_program(program, about.model, about.signature.names, plain.names)
    folding.fold_scaling(model)
    try:
        session = onnx_graph.session(*onnx_graph.split(model)[:2])
    except LabError as error:
        raise LabError(f"model={about.model!r}: {error}; write it with runtime='torch'") from None
    hold(onnx_graph.runner(session, about.signature, plain.names), plain, about, "ONNX Runtime")
    if scheme == "int8_static":
        assert samples is not None
        return quantizing.static(model, samples, about, keep, elsewhere)
    return quantizing.dynamic(model, keep) if scheme == "int8_dynamic" else (model, set())


def calibrated(samples: Any, about: About) -> np.ndarray:
    """Calibration samples (N, *shape) as the model takes them; SpecError if there are none, or they are of no use."""
    if samples is None or not (count(samples) if isinstance(samples, dict) else len(samples)):
        raise SpecError("calibration=None: scheme='int8_static' needs raw samples to see how large activations get")
    try:
        return taken(about.signature, (samples,))[0]
    except LabError as error:
        raise SpecError(f"calibration: {error}") from None
