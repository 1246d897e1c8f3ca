"""export(): a run's model, or a module, as a file for elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import schemes
from ..artifacts.about import About
from ..artifacts.container import unwritten
from ..artifacts.writing import calibrated, onnx_of, write
from ..errors import SpecError, needs
from ..files import write_bytes
from ..measures.candidates import some, source
from ..switches import quiet
from ..tables import pick

if TYPE_CHECKING:
    import os

    from torch import nn

    from ..artifacts.preparing import Prepared

BATCHES = (1, 3)  # that every exported file is checked with
CALIBRATION = 256  # samples that a run brings


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
    checkpoint: str = "last",
) -> dict[str, Any]:
    """
    Write a model for use elsewhere, and hold the file to what the model computes.

    Parameters
    ----------
    model
        A run, or a module.
    path
        File to write.
    format
        "lepton": an artifact (see `lepton_lab.artifacts.write`); "onnx": one ONNX file; "torch": a torch.export
        program, usually named .pt2. All take raw samples in a batch of any size, and scale them as training did.
    scheme, keep, runtime
        As `write` takes them; "onnx" takes what ONNX Runtime runs but int8_weights, "torch" takes fp32 and bf16.
    about
        What samples are; a run knows.
    calibration
        Raw samples (N, *shape) for int8_static; a run brings 256 of those that it was trained on.
    checkpoint
        Which model of a run: "last", "best" or "ema", as `Run.model` takes it.

    Returns
    -------
    dict
        path, format, scheme, bytes, batches (sizes that it was checked with) and difference (the largest between a
        score of the file and the model's own).

    Raises
    ------
    SpecError, LabError
        In one sentence: a value that is refused, or an operator that does not export, with its name and what to do.
    """
    writer, takes = pick(FORMATS, format, "format")
    pick(schemes.SCHEMES, scheme, "scheme")
    if scheme not in takes:
        raise SpecError(f"scheme={scheme!r}: format={format!r} holds {' or '.join(map(repr, takes))}")
    origin = source(model, checkpoint)
    about = about or origin.about
    if about is None:
        raise SpecError("about=None: of a module, say what its samples are: lab.About(model, shape, dtype, ...)")
    if calibration is None and origin.task is not None and scheme == "int8_static":
        calibration = some(origin.task, about, CALIBRATION)
    path = Path(path)
    difference = writer(path, origin.module, about, scheme, calibration, tuple(keep), runtime)
    file = {"path": str(path), "format": format, "scheme": scheme, "bytes": path.stat().st_size}
    return {**file, "batches": list(BATCHES), "difference": difference}


def _lepton(
    path: Path, module: nn.Module, about: About, scheme: str, calibration: Any, keep: tuple[str, ...], runtime: str
) -> float:
    from ..artifacts.preparing import Prepared

    artifact = write(path, module, about, scheme, calibration, keep, runtime)
    return _difference(artifact.forward, Prepared(module, about), about)


def _onnx(
    path: Path, module: nn.Module, about: About, scheme: str, calibration: Any, keep: tuple[str, ...], _: str
) -> float:
    needs("format='onnx'", "onnxruntime", "onnx", "onnxscript")
    import onnxruntime

    from ..artifacts import onnx_graph
    from ..artifacts.preparing import Prepared, floats, traced

    samples = calibrated(calibration, about) if scheme == "int8_static" else None
    own = Prepared(module, about)
    plain = floats(own, about)
    model = onnx_of(traced(plain, about), scheme, about, samples, keep, plain, elsewhere=True)[0]
    onnx_graph.slim(model)
    body = model.SerializeToString()
    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    difference = _difference(onnx_graph.runner(session, about.signature, plain.names), own, about)
    _write(path, body)
    return difference


def _torch(path: Path, module: nn.Module, about: About, scheme: str, *_: Any) -> float:
    import io

    import torch

    from ..artifacts.outputs import asking
    from ..artifacts.preparing import Prepared, arrays_of, floats, hold, traced

    buffer = io.BytesIO()
    with torch.no_grad(), quiet():
        own = Prepared(module, about)
        coarse = torch.bfloat16 if scheme == "bf16" else None
        plain = Prepared(module, about, coarse) if coarse else floats(own, about)
        torch.export.save(traced(plain, about), buffer)
        program = torch.export.load(io.BytesIO(buffer.getvalue())).module()

        run = asking(lambda arrays: arrays_of(program(*map(torch.from_numpy, arrays))), about.signature, plain.names)
        hold(run, own if coarse else plain, about, f"torch.export's program in {scheme}", coarse)
        difference = _difference(run, own, about)
    _write(path, buffer.getvalue())
    return difference


def _difference(scores: Callable[[Any], Any], own: Prepared, about: About) -> float:
    """The largest between a file's scores of made-up samples and those of the module as the user has it."""
    from ..artifacts.outputs import distance
    from ..artifacts.preparing import scores as asked

    asked(own, about)  # names of its outputs
    batches = [about.signature.made_up(n) for n in BATCHES]
    return max(distance(scores(batch), own.answer(batch)) for batch in batches)


def _write(path: Path, body: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, body)
    except OSError as error:
        raise unwritten("file", path, error) from None


FORMATS: dict[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "lepton": (_lepton, tuple(schemes.SCHEMES)),
    "onnx": (_onnx, ("fp32", "int8_static", "int8_dynamic")),
    "torch": (_torch, ("fp32", "bf16")),
}
