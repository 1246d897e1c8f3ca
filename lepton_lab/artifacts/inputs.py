"""
What a model is called with: its tensors by name, in order, and how they are handed over.

Where it is one tensor, a batch is that array; else a dict of arrays by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from ..batches import call
from ..errors import SpecError, unknown

if TYPE_CHECKING:
    import numpy as np

CALLS = ("tensor", "arguments", "keywords", "list")
"""The last is a list of what is a row of one tensor, as detectors take pictures; a sample at a time."""
SEVERAL = ("arguments", "keywords")
DTYPES = ("uint8", "float32", "int64", "bool")
SAMPLES = "samples"  # the name of an input that is the only one


@dataclass(frozen=True)
class Input:
    """One tensor that a model is called with."""

    name: str
    shape: tuple[int | None, ...]
    """Of a sample, without the batch; None where any size is taken."""
    dtype: str
    """One of DTYPES."""
    vocabulary: int = 0
    """Whole numbers are below it; 0 where that is not known."""
    sizes: tuple[int, ...] = field(default=(), compare=False)
    """Of a made-up sample, where `shape` leaves some open."""
    below: int = field(default=0, compare=False)
    """Made-up whole numbers are below it; 0 takes `vocabulary`. Of yes and no, such as a mask, all are yes."""
    like: str = ""
    """The input of whose shape it is, filled with `fill`, where it is left out; "" where it must be given."""
    fill: int = 0
    """What it then holds, such as the ones of a mask."""
    begins: int = -1
    """The token that it is, (B, 1), where it is left out, since the model itself writes what follows; -1 of others."""

    @property
    def spared(self) -> bool:
        """Whether it may be left out."""
        return bool(self.like) or self.begins >= 0

    def made_up(self, count: int, longer: int = 0) -> np.ndarray:
        """Raw samples (count, *shape) by `made_up`; open sizes are `longer` than usual."""
        import numpy as np

        sizes = self.sizes or self.shape
        shape = tuple(
            size + longer * (own is None) for size, own in zip(sizes, self.shape, strict=True) if size is not None
        )
        if self.dtype == "bool" or (self.dtype == "int64" and 0 < self.below <= 2):
            return np.ones((count, *shape), self.dtype)
        return made_up(count, shape, self.dtype, self.below or self.vocabulary)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        made = {"sizes": list(self.sizes), "below": self.below}
        usual: dict[str, Any] = {"like": self.like, "fill": self.fill} if self.like else {}
        usual |= {"begins": self.begins} if self.begins >= 0 else {}
        facts = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "vocabulary": self.vocabulary}
        return facts | made | usual

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Input:
        """From what a manifest says, which is not trusted: ValueError where it is no such."""
        shape: Any = content.get("shape")
        name, sizes = content.get("name", SAMPLES), content.get("sizes") or []
        like = content.get("like", "")
        counts = [content.get("vocabulary"), content.get("below", 0), content.get("fill", 0)]
        begins = content.get("begins", -1)
        counts += [] if begins == -1 else [begins]
        whole = all(isinstance(part, list) for part in (shape, sizes)) and isinstance(name, str)
        whole = whole and isinstance(like, str)
        if not whole or not all(isinstance(n, int) and n >= 0 for n in counts):
            raise ValueError("its manifest tells of an input that is none")
        if not all((n is None and len(sizes) == len(shape)) or (isinstance(n, int) and n >= 1) for n in shape):
            raise ValueError("its manifest tells a shape that is none")
        if not all(isinstance(n, int) and n >= 1 for n in sizes):
            raise ValueError("its manifest tells a shape that is none")
        known = name, tuple(shape), str(content.get("dtype")), counts[0], tuple(sizes), counts[1]
        return cls(*known, like, counts[2], begins)


@dataclass(frozen=True)
class Signature:
    """All that a model is called with."""

    inputs: tuple[Input, ...]
    call: str = CALLS[0]
    """How they are handed over, one of CALLS."""

    @property
    def names(self) -> list[str]:
        """Of the inputs, in order."""
        return [item.name for item in self.inputs]

    @property
    def several(self) -> bool:
        """Whether a batch is a dict of arrays by name."""
        return self.call in SEVERAL

    @property
    def apart(self) -> bool:
        """Whether each sample is asked for by itself."""
        return self.call == "list"

    @property
    def open(self) -> bool:
        """Whether some size beside the batch's is open."""
        return any(None in item.shape for item in self.inputs)

    def pack(self, values: Any) -> Any:
        """A batch from its arrays in order."""
        values = list(values)
        return dict(zip(self.names, values, strict=True)) if self.several else values[0]

    def flat(self, batch: Any) -> list[Any]:
        """A batch's arrays in order."""
        return [batch[name] for name in self.names] if self.several else [batch]

    def made_up(self, count: int, longer: int = 0) -> Any:
        """A made-up batch, see `Input.made_up`."""
        return self.pack(item.made_up(count, longer) for item in self.inputs)

    def question(self, values: Any) -> Any:
        """What a model is called with, see `batches.call`, of its tensors in order."""
        if self.call == "keywords":
            return dict(zip(self.names, values, strict=True))
        return [*values[0]] if self.apart else tuple(values)

    def ask(self, model: Callable[..., Any], values: Any) -> Any:
        """The outputs of a model that is called as its task calls it."""
        return call(model, self.question(values))

    def bound(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, by name, for all inputs but those with a usual value; by place, name, one dict or tuple."""
        if self.several and len(args) == 1 and not named:
            (whole,) = args
            if isinstance(whole, Mapping):
                args, named = (), whole
            elif isinstance(whole, tuple):
                args = whole
        if len(args) > len(self.inputs):
            raise SpecError(f"{len(args)} inputs: the model takes {', '.join(self.names)}")
        given = dict(zip(self.names, args, strict=False))
        for name, value in named.items():
            if name not in self.names:
                raise SpecError(unknown("input", str(name)[:60], self.names))
            given[name] = value
        if missing := [item.name for item in self.inputs if item.name not in given and not item.spared]:
            raise SpecError(f"no {missing[0]!r}: the model takes {', '.join(self.names)}")
        return given


def count(batch: Any) -> int:
    """How many samples a batch has."""
    return len(next(iter(batch.values())) if isinstance(batch, dict) else batch)


def parts(batch: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """A batch with each of its arrays changed."""
    return {name: change(array) for name, array in batch.items()} if isinstance(batch, dict) else change(batch)


def made_up(count: int, shape: tuple[int, ...], dtype: str, vocabulary: int = 0) -> np.ndarray:
    """
    Raw samples (count, *shape) by a formula, the same everywhere: what files are held to.

    The i-th number is the upper byte of i * 2654435761 mod 2**32 (Knuth's multiplicative hash).
    """
    import numpy as np

    numbers = np.arange(1, count * prod(shape) + 1, dtype=np.uint64)
    hashed = (numbers * np.uint64(2654435761) % np.uint64(2**32) >> np.uint64(24)).reshape(count, *shape)  # 0 to 255
    if dtype == "int64":
        return (hashed % np.uint64(vocabulary)).astype(np.int64)
    return hashed.astype(np.uint8) if dtype == "uint8" else (hashed.astype(np.float32) / 128 - 1)
