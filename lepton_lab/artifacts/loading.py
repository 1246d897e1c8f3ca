"""load(): a callable from a file, without the code that made it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError, SpecError, needs, shown
from . import answering, container, decoding, schemes
from . import manifest as manifests
from .checking import like, taken
from .outputs import asking, one
from .texts import numbered

if TYPE_CHECKING:
    import numpy as np

    from .inputs import Signature

    Forward = Callable[[Any], Any]


def load(path: str | os.PathLike[str], *, threads: int = 0) -> Artifact:
    """
    A model from a file.

    Nothing in the file is executed: its graph is data that names operators of a fixed list, its weights are numbers.

    Parameters
    ----------
    path
        File that `lab.export` or a compression wrote.
    threads
        That ONNX Runtime computes with; 0 takes all cores. (torch has its own: torch.set_num_threads.)

    Returns
    -------
    Artifact
        Called on raw samples it gives scores.

    Raises
    ------
    SpecError
        If it is no path, such as a run.
    LabError
        In one sentence, if the file is no artifact, is truncated or changed, is newer than this library, names an
        operator that is not allowed, or needs a runtime that is not installed.
    """
    if isinstance(path, (str, os.PathLike)):
        return Artifact.read(Path(path), threads)
    if (folder := getattr(path, "folder", None)) is not None:  # a run
        raise SpecError(f"run {path.id!r} is no file: {container.instead(folder)}")
    raise SpecError(f"path={shown(path)}: must be the path of a file that lab.export or lab.compress wrote")


class Artifact:
    """
    A model that came from a file.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    manifest : dict
        All that it says of itself.
    input_shape : tuple of int
        Shape of one raw sample.
    labels : list of str
        Name of each score; empty for a regression.
    threads : int
        That ONNX Runtime computes with; 0 = all cores.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], graph: bytes, weights: bytes, threads: int = 0) -> None:
        self.path, self.manifest, self.threads = path, manifest, threads
        self._body = graph, weights
        manifests.check(manifest)
        takes = manifest["input"]
        self.signature = manifests.signature(manifest)
        self.input_shape: tuple[int | None, ...] = tuple(takes["shape"])
        self.dtype, self.vocabulary = str(takes["dtype"]), int(takes["vocabulary"])
        self.labels: list[str] = list(manifest["labels"])
        self.scheme, self.runtime = str(manifest["scheme"]), str(manifest["runtime"])
        self.outputs = manifests.outputs(manifest)
        names = [item.name for item in self.outputs] if "outputs" in manifest else []
        self._run = _RUNTIMES[self.runtime](graph, weights, threads, self.signature, names)

    @classmethod
    def read(cls, path: Path, threads: int = 0) -> Artifact:
        """From a file; raises what `load` does."""
        manifest, graph, weights = container.unpack(path)
        return cls._of(path, manifest, graph, weights, threads)

    @classmethod
    def _of(cls, path: Path, manifest: dict[str, Any], graph: bytes, weights: bytes, threads: int = 0) -> Artifact:
        try:
            return cls(path, manifest, graph, weights, threads)
        except LabError as error:
            raise container.refused(path, f"is not run: {error}") from None
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise container.refused(path, f"can't be read ({type(error).__name__}: {str(error)[:80]})") from None

    def __repr__(self) -> str:
        takes = manifests.takes(self.manifest)
        facts = f"{self.manifest['model']}, {self.scheme}, {self.bytes:,} bytes, takes {takes}"
        return f"<Artifact {self.path.name}: {facts}>"

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def __call__(self, *samples: Any, **named: Any) -> Any:
        """
        Scores of raw samples; the model's several inputs are given by place, by name, or in one dict.

        Parameters
        ----------
        samples
            (B, *input_shape), or (*input_shape) for one; a NumPy array, nested lists, or a torch tensor. A model of
            texts also takes a text, or a list of texts.

        Returns
        -------
        numpy.ndarray or torch.Tensor, dict or list
            Scores (B, K) as the same kind, float32; (K,) of one sample; (B, T, K) of texts, (B, K, H, W) of pixels. A
            dict by name, where the model gives several; of a detector a list of such dicts, one a picture.

        Raises
        ------
        SpecError
            If samples have another shape, kind or range.
        """
        samples = numbered(samples, self.manifest)
        batch, alone = taken(self.signature, samples, named)
        scores = self.forward(batch)
        return like((*samples, *named.values()), one(scores) if alone else scores)

    def predict(self, *samples: Any, **named: Any) -> Any:
        """
        What the scores say of each sample in the task's terms: a list, or one answer for one sample.

        The label of the highest score; where each place of a sample has a label, as the tokens of a text or the pixels
        of a picture, a list of them. Of several yes or no, the labels that are likely. What CTC and a sequence for a
        sequence say is a text. A detector's are lists of {label, score, box: x1, y1, x2, y2}, the surest first. Of
        several targets, labels by target's name. Of a regression, which has no labels, its numbers.
        """
        batch, alone = taken(self.signature, numbered(samples, self.manifest), named)
        scores = self.written(batch) if decoding.writes(self.manifest) else self.forward(batch)
        return answering.predictions(scores, self.manifest, batch, alone)

    def answered(self, batch: Any) -> dict[str, Any]:
        """All that a server tells of a batch, see `answering.answered`, with what is written where it writes."""
        answers = answering.answered(self.forward(batch), self.manifest, batch)
        if decoding.writes(self.manifest):
            answers["text"] = answering.answered(self.written(batch), self.manifest)["text"]
        return answers

    def written(self, batch: Any) -> list[np.ndarray]:
        """The tokens that it writes of a batch by itself, see `decoding.written`."""
        return decoding.written(self.forward, batch, self.manifest, self.signature)

    def forward(self, batch: Any) -> Any:
        """Scores of a batch (B, *input_shape), or a dict of several, of the right dtype, unchecked: what is timed."""
        try:
            return self._run(batch)
        except Exception as error:  # ONNX Runtime's are of classes of their own
            reason = str(error).partition("\n")[0]
            raise LabError(f"its graph failed: {reason[:160]}") from error

    def made_up(self, count: int) -> Any:
        """Raw samples (count, *input_shape), or a dict of several, by a formula, the same everywhere."""
        return self.signature.made_up(count)

    def with_threads(self, threads: int) -> Artifact:
        """The same, computing with so many threads."""
        return Artifact(self.path, self.manifest, *self._body, threads)


def _torch(graph: bytes, weights: bytes, threads: int, signature: Signature, names: list[str]) -> Forward:
    import torch
    from safetensors.torch import load

    from . import coding
    from .graph import Graph

    tensors = schemes.grow(_tensors(load, weights))
    if (coded := tensors.pop(schemes.CODED, None)) is not None:
        tensors |= {name: torch.from_numpy(array) for name, array in coding.unpack(coded.numpy()).items()}
    try:
        content = json.loads(graph)
    except (ValueError, RecursionError):
        raise LabError("its graph is not JSON") from None
    run = Graph(content, tensors)

    def forward(arrays: list[np.ndarray]) -> list[np.ndarray]:
        # torch warns of arrays that it could write to, and must not
        arrays = [array if array.flags.writeable else array.copy() for array in arrays]
        with torch.inference_mode():
            return [output.numpy() for output in run(*map(torch.from_numpy, arrays))]

    return asking(forward, signature, names)


def _onnx(graph: bytes, weights: bytes, threads: int, signature: Signature, names: list[str]) -> Forward:
    needs("runtime='onnxruntime'", "onnxruntime", "onnx")
    from safetensors.numpy import load

    from . import onnx_graph

    return onnx_graph.runner(
        onnx_graph.session(graph, schemes.grow(_tensors(load, weights)), threads), signature, names
    )


_RUNTIMES: dict[str, Callable[[bytes, bytes, int, Signature, list[str]], Forward]] = {
    "torch": _torch,
    "onnxruntime": _onnx,
}


def _tensors(reader: Any, weights: bytes) -> dict[str, Any]:
    from safetensors import SafetensorError

    try:
        return reader(weights)
    except SafetensorError as error:
        raise LabError(f"its weights are no safetensors file ({str(error)[:60]})") from None
