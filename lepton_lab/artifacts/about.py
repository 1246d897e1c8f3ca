"""What an artifact says of itself beyond its numbers: what goes in, what comes out, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from ..errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..datasets import Data
    from ..spec import Spec

DTYPES = ("uint8", "float32", "int64")


@dataclass(frozen=True)
class About:
    """
    What is known of a model when an artifact of it is written.

    Attributes
    ----------
    model : str
        Its name.
    shape : tuple of int
        Shape of one raw sample, without the batch.
    dtype : str
        What raw samples hold: "uint8" (scaled before the model sees them), "float32" (given to it as they are) or
        "int64" (tokens).
    labels : list of str
        Name of each output; empty for a regression.
    vocabulary : int
        Kinds of tokens; 0 where samples are numbers.
    tokens : str
        What a token is: "bytes", "characters" or "".
    mean, std : tuple of float
        Per channel, of x / 255; () = uint8 is only divided by 255.
    chain : list of dict
        Links that made it, in order, each {name: options}.
    parent : str
        Id of the run whose model was compressed.
    measured : dict
        Figures measured so far, such as `Measured.to_dict()`.
    """

    model: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    labels: list[str] = field(default_factory=list)
    vocabulary: int = 0
    tokens: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    chain: list[dict[str, Any]] = field(default_factory=list)
    parent: str = ""
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype not in DTYPES:
            raise SpecError(f"dtype={self.dtype!r}: must be {', '.join(map(repr, DTYPES[:-1]))} or {DTYPES[-1]!r}")
        if self.dtype == "int64" and self.vocabulary < 1:
            raise SpecError(f"vocabulary={self.vocabulary}: must be at least 1 where samples are tokens (int64)")

    @classmethod
    def of(cls, data: Data, spec: Spec | str, **more: Any) -> About:
        """
        What data and a spec (or a model's name) tell; `more` are fields such as `chain`, `parent` and `measured`.

        Raw samples are what the data set holds: pixels stay uint8, and the artifact scales them.
        """
        import torch

        from ..datasets import rows

        pixels = rows(data.train, [0])[0].dtype == torch.uint8
        return cls(
            model=spec if isinstance(spec, str) else spec.model,
            shape=data.shape,
            dtype="int64" if data.vocabulary else "uint8" if pixels else "float32",
            labels=list(data.classes),
            vocabulary=data.vocabulary,
            tokens=data.tokens,
            mean=tuple(data.mean),
            std=tuple(data.std),
            **more,
        )

    def samples(self, count: int) -> Tensor:
        """Raw samples (count, *shape), made up (see `made_up`)."""
        import torch

        return torch.from_numpy(made_up(count, self.shape, self.dtype, self.vocabulary))


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
