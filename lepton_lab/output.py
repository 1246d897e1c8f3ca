"""Where text is read: a notebook, a terminal, or a file; and a line there that changes while something works."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

EVERY = 0.1  # seconds between looks at the events


@contextlib.contextmanager
def line() -> Iterator[Callable[[str], object]]:
    """
    One line of text that changes while something works: a function to call as often as one likes.

    It stands on a terminal's stderr, or below the cell of a notebook, and goes at the end; elsewhere nothing is shown.
    """
    shown = 0.0

    def draw(text: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= EVERY or not text:
            put(text)
            shown = time.monotonic()

    if multiprocessing.parent_process() or not (kernel() or sys.stderr.isatty()):
        yield lambda text: None
        return
    if kernel():
        handle = sys.modules["IPython"].display.display({"text/plain": ""}, raw=True, display_id=True)

        def put(text: str) -> None:
            handle.update({"text/plain": text}, raw=True)
    else:

        def put(text: str) -> None:
            print(f"\r\x1b[K{text[: width(sys.stderr) - 1]}", end="", file=sys.stderr, flush=True)

    try:
        yield draw
    finally:
        draw("")


def kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")  # not imported: only asked where it runs already
    return hasattr(ipython.get_ipython() if ipython else None, "kernel")


def width(stream: TextIO) -> int:
    """Characters of a line on a stream."""
    return shutil.get_terminal_size().columns if stream.isatty() else 80
