"""Silence, while libraries work that tell of themselves."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

ERRORS, WARNINGS = 3, 2  # what ONNX Runtime tells on stderr, from that on; warnings by default


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters and the quantizer tell of themselves on stderr; what a user can put right comes as an error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None:
        runtime.set_default_logger_severity(ERRORS)
    bar = _progress_bar()
    interval, bar.monitor_interval = bar.monitor_interval, 0  # else it starts a thread that never ends
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        bar.monitor_interval = interval
        if runtime is not None:
            runtime.set_default_logger_severity(WARNINGS)


def _progress_bar() -> Any:
    """The class of the progress bars that they make, where it has them."""
    try:
        from tqdm import tqdm
    except ImportError:
        return SimpleNamespace(monitor_interval=0)
    return tqdm
