"""The generators of random numbers that a user's samples may draw from: torch's, NumPy's and Python's own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

States = tuple[Any, Any, Any]
"""Of torch's, NumPy's and Python's own random generator."""


def states() -> States:
    """As they are."""
    import numpy as np
    import torch

    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def restore(held: States) -> None:
    """Go on from states that were held."""
    import numpy as np
    import torch

    torch.set_rng_state(held[0])
    np.random.set_state(held[1])
    random.setstate(held[2])


def same(one: States, other: States) -> bool:
    """Whether nothing was drawn between them."""
    import torch

    alike = all((a == b).all() if hasattr(a, "all") else a == b for a, b in zip(one[1], other[1], strict=True))
    return torch.equal(one[0], other[0]) and alike and one[2] == other[2]


def seeded(seed: int) -> None:
    """Begin all three anew."""
    import numpy as np
    import torch

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_for(seed: int, index: int) -> None:
    """Have random transforms of a sample draw from a seed and its index alone."""
    seeded(hash((seed, index)) % 2**32)  # of whole numbers: the same in every process


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Generators are as before afterwards: once for many samples, since NumPy's takes 80 microseconds to tell."""
    others = states()
    try:
        yield
    finally:
        restore(others)
