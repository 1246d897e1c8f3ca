"""Switches of torch that hold for the whole process, thrown by one thread at a time and put back."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Of each switch: two threads that take turns in between would put back what the other had set.
_LOCKS: defaultdict[Callable[[Any], Any], threading.RLock] = defaultdict(threading.RLock)


@contextmanager
def switched(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """
    With a switch of the process at another value; other threads that want to throw one wait.

    Parameters
    ----------
    get, put
        Tell what it is at, and set it.
    """
    with _LOCKS[put]:
        before = get()
        put(value)
        try:
            yield
        finally:
            put(before)


@contextmanager
def no_fastpath() -> Iterator[None]:
    """Attention layer by layer: the kernels for whole encoder layers are in no other runtime, and hide products."""
    import torch

    with switched(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False):
        yield
