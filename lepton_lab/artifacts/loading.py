"""load(): a callable from a file, without the code that made it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..answers import named
from ..errors import LabError, SpecError, shown
from . import container, schemes
from . import manifest as manifests
from .about import made_up
from .checking import checked

if TYPE_CHECKING:
    import numpy as np


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
    return Artifact.read(_file(path), threads)


def _file(given: Any) -> Path:
    """The path of a file; refused where something else is given."""
    if isinstance(given, (str, os.PathLike)):
        return Path(given)
    if (folder := getattr(given, "folder", None)) is not None:  # a run
        raise SpecError(f"run {given.id!r} is no file: {container.instead(folder)}")
    raise SpecError(f"path={shown(given)}: must be the path of a file that lab.export or lab.compress wrote")


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
        self.input_shape: tuple[int, ...] = tuple(takes["shape"])
        self.dtype, self.vocabulary = str(takes["dtype"]), int(takes["vocabulary"])
        self.labels: list[str] = list(manifest["labels"])
        self.scheme, self.runtime = str(manifest["scheme"]), str(manifest["runtime"])
        self._run = _RUNTIMES[self.runtime](graph, weights, threads)

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
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise container.refused(path, f"can't be read ({type(error).__name__}: {str(error)[:80]})") from None

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        facts = f"{self.manifest['model']}, {self.scheme}, {self.bytes:,} bytes, takes {shape} {self.dtype}"
        return f"<Artifact {self.path.name}: {facts}>"

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def __call__(self, samples: Any) -> Any:
        """
        Scores of raw samples.

        Parameters
        ----------
        samples
            (B, *input_shape), or (*input_shape) for one; a NumPy array, nested lists, or a torch tensor.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Scores (B, K) as the same kind, float32; (K,) of one sample; (B, T, K) of texts, (B, K, H, W) of pixels.

        Raises
        ------
        SpecError
            If samples have another shape, kind or range.
        """
        batch, alone = checked(samples, self.input_shape, self.dtype, self.vocabulary)
        scores = self.forward(batch)
        if alone:
            scores = scores[0]
        torch = sys.modules.get("torch")
        return torch.from_numpy(scores) if torch is not None and isinstance(samples, torch.Tensor) else scores

    def predict(self, samples: Any) -> Any:
        """
        The name of the highest score for each sample: a list, or one name for one sample.

        Where each place of a sample is told, as each token of a text or pixel of a picture, lists of their names.

        A regression has no names: it gives its numbers.
        """
        import numpy as np

        scores = np.asarray(self(samples))
        if not self.labels:
            return scores
        return named(scores, self.labels, self.manifest["output"]["shape"], tokens=self.vocabulary > 0)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Scores of a batch (B, *input_shape) of the right dtype, unchecked: what is timed."""
        return self._run(batch)

    def made_up(self, count: int) -> np.ndarray:
        """Raw samples (count, *input_shape) by a formula, the same everywhere."""
        return made_up(count, self.input_shape, self.dtype, self.vocabulary)

    def with_threads(self, threads: int) -> Artifact:
        """The same, computing with so many threads."""
        return Artifact(self.path, self.manifest, *self._body, threads)


class _Torch:
    """The torch graph, under our own interpreter."""

    def __init__(self, graph: bytes, weights: bytes, threads: int) -> None:
        import torch
        from safetensors.torch import load

        from .graph import Graph

        tensors = _tensors(load, weights)
        if any(name.endswith(schemes.SCALE) for name in tensors):
            arrays = {name: t.numpy() for name, t in tensors.items() if t.dtype != torch.bfloat16}  # NumPy has none
            grown = {name: torch.from_numpy(array) for name, array in schemes.grow(arrays).items()}
            tensors = {name: t for name, t in tensors.items() if name not in arrays} | grown
        try:
            content = json.loads(graph)
        except (ValueError, RecursionError):
            raise LabError("its graph is not JSON") from None
        self._graph, self._torch = Graph(content, tensors), torch

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if not batch.flags.writeable:
            batch = batch.copy()  # torch warns of arrays that it could write to, and must not
        with self._torch.inference_mode():
            try:
                return self._graph(self._torch.from_numpy(batch)).numpy()
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
                raise LabError(f"its graph failed: {str(error).splitlines()[0][:160]}") from error


class _Onnx:
    """The ONNX graph, under ONNX Runtime."""

    def __init__(self, graph: bytes, weights: bytes, threads: int) -> None:
        from safetensors.numpy import load

        from . import onnx_graph

        arrays = schemes.grow(_tensors(load, weights))
        self._session = onnx_graph.session(graph, arrays, threads)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(None, {"samples": batch})[0]
        except Exception as error:  # of classes of its own, which are no others' children
            raise LabError(f"its graph failed: {str(error).splitlines()[0][:160]}") from error


_RUNTIMES: dict[str, type[_Torch] | type[_Onnx]] = {"torch": _Torch, "onnxruntime": _Onnx}


def _tensors(reader: Any, weights: bytes) -> dict[str, Any]:
    from safetensors import SafetensorError

    try:
        return reader(weights)
    except SafetensorError as error:
        raise LabError(f"its weights are no safetensors file ({str(error)[:60]})") from None
