"""
What a model gives: one tensor, or several by name, with a row a sample; or of each sample as many rows as it likes.

Where it is one tensor, scores are that array (B, ...); where it is several, a dict of arrays by name; where samples are
asked for one at a time (call "list"), a list of what each gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..batches import leaves, over

if TYPE_CHECKING:
    import numpy as np

    from .inputs import Signature

KINDS = ("float32", "int64", "bool")  # that outputs are of
HELD = 32  # numbers of a file's first sample that its manifest keeps to check it by


@dataclass(frozen=True)
class Output:
    """One tensor that a model gives."""

    name: str
    shape: tuple[int | None, ...]
    """Of a sample; None where it depends on the inputs."""
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}

    @classmethod
    def of(cls, content: Any) -> Output:
        """From what a manifest says, which is not trusted: ValueError where it is no such."""
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise ValueError("its manifest tells of an output that is none")
        shape, dtype = content.get("shape"), content.get("dtype")
        if not isinstance(shape, list) or not all(n is None or (isinstance(n, int) and n >= 0) for n in shape):
            raise ValueError("its manifest tells a shape that is none")
        if dtype not in KINDS:
            raise ValueError(f"its manifest tells of outputs of {str(dtype)[:20]!r}")
        return cls(content["name"], tuple(shape), dtype)


def named(outputs: Any) -> Any:
    """A model's outputs as one of a kind: a tensor, or a dict of what has names; what else there is, as it is."""
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items()}
    if isinstance(outputs, (tuple, list)):
        if len(outputs) == 1:
            return outputs[0]
        names = getattr(outputs, "_fields", None) or [f"output{i}" for i in range(len(outputs))]
        return dict(zip(names, outputs, strict=True))
    return outputs


def asking(
    run: Callable[[list[Any]], Sequence[np.ndarray]], signature: Signature, names: Sequence[str]
) -> Callable[[Any], Any]:
    """
    A function of a batch that gives scores, from one of arrays in order that gives arrays in order.

    `names` are those of outputs; none of one tensor.
    """

    def pack(arrays: Sequence[np.ndarray]) -> Any:
        return dict(zip(names, arrays, strict=True)) if names else arrays[0]

    def scores(batch: Any) -> Any:
        if not signature.apart:
            return pack(run(signature.flat(batch)))
        (whole,) = signature.flat(batch)
        return [pack(run([whole[i : i + 1]])) for i in range(len(whole))]

    return scores


def first(scores: Any) -> np.ndarray:
    """The first output of the first sample, of scores of a batch."""
    whole = leaves(scores)[0]
    return whole if isinstance(scores, list) else whole[0]


def one(scores: Any) -> Any:
    """What is said of the first sample alone."""
    return scores[0] if isinstance(scores, list) else over(lambda array: array[0], scores)


def distance(got: Any, expected: Any) -> float:
    """The largest between two scores; of objects that were found, of as many as there are in both, the surest."""
    pairs = zip(leaves(got), leaves(expected), strict=True)
    rows = ((a[: len(b)].astype("float64"), b[: len(a)]) for a, b in pairs)
    return max((float(abs(a - b).max()) for a, b in rows if a.size), default=0.0)


def shapes(scores: Any) -> list[tuple[int, ...]]:
    """Of all that there is in scores."""
    return [array.shape for array in leaves(scores)]


def told(scores: Any, longer: Any) -> list[Output]:
    """
    What to say of outputs, from scores of a batch, and from those of a batch whose open sizes are longer.

    One is called "scores"; of what is asked for one sample at a time each may have another number of rows.
    """
    apart = isinstance(scores, list)
    scores, longer = (part[0] if apart else part for part in (scores, longer))
    several = scores if isinstance(scores, dict) else {"scores": scores}
    others = longer if isinstance(longer, dict) else {"scores": longer}
    outputs = []
    for name, array in several.items():
        sizes = zip(array.shape, others[name].shape, strict=True)
        shape = [size if size == other else None for size, other in sizes]
        outputs.append(Output(name, (None, *shape[1:]) if apart else tuple(shape[1:]), str(array.dtype)))
    return outputs
