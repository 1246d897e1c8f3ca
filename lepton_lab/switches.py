"""Switches of torch that hold for the whole process, thrown by one thread at a time and put back."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

ERRORS, WARNINGS = 3, 2  # what ONNX Runtime tells on stderr, from that on; warnings by default
# Of each switch: two threads that take turns in between would put back what the other had set.
_LOCKS: defaultdict[Callable[[Any], Any], threading.RLock] = defaultdict(threading.RLock)


@contextmanager
def switched(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """With a switch of the process, which `get` reads and `put` sets, at another value; one thread at a time."""
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


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what exporters and the quantizer write to stderr: what a user can put right is raised as an error."""
    bar, runtime = _progress_bar(), sys.modules.get("onnxruntime")
    severity = runtime.set_default_logger_severity if runtime else int
    with _LOCKS[logging.disable]:
        disabled, interval = logging.root.manager.disable, bar.monitor_interval
        logging.disable(logging.ERROR)
        severity(ERRORS)
        bar.monitor_interval = 0  # else it starts a thread that never ends
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(disabled)
            severity(WARNINGS)
            bar.monitor_interval = interval


def _progress_bar() -> Any:
    """The class of the progress bars that they make, where it has them."""
    try:
        from tqdm import tqdm
    except ImportError:
        return SimpleNamespace(monitor_interval=0)
    return tqdm
