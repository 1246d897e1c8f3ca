"""Contenders in processes of their own, on cores of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]


def cores() -> list[int]:
    """Cores that we may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(count: int) -> Iterator[None]:
    """Processes started in here run on the last `count` cores, and so with as many threads."""
    mine = cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, mine[-count:])
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, mine)


def core_by_core() -> ThreadPoolExecutor:
    """As many threads as cores: processes that one of them starts run on a core of their own."""
    free: SimpleQueue[int] = SimpleQueue()
    for core in (mine := cores()):
        free.put(core)
    keep = (lambda: os.sched_setaffinity(0, {free.get()})) if hasattr(os, "sched_setaffinity") else None
    return ThreadPoolExecutor(len(mine), initializer=keep)


def python(module: str, *arguments: Any) -> Any:
    """Run `python -m benchmarks.<module> arguments`; returns the JSON value that is the last line it prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(**values: str) -> dict[str, str]:
    """Our environment, in which the packages of this checkout are found from anywhere, and gloo stays on loopback."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "widgets"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", **values}


def take_turns(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each contender once a round, in turn; name -> its values."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            values[name].append(contender())
    return values


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition to hold, at most two minutes, and return its value."""
    deadline = time.monotonic() + 120
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen within two minutes")
        time.sleep(0.01)
    return value


def installed(package: str) -> bool:
    """Whether a package that only the benchmarks use is there (`pip install lepton-lab[bench]`)."""
    return importlib.util.find_spec(package) is not None


def image_data() -> str:
    """MNIST where the data root has it, else the embedded digits; nothing is downloaded."""
    from lepton_lab.datasets import SOURCES
    from lepton_lab.datasets.files import find
    from lepton_lab.files import data_root

    there = all(find("mnist", data_root(), file) for file in SOURCES["mnist"].files())
    return "mnist" if there else "digits"
