"""Operations between ranks, as torch's flight recorder and the stack know them: what does a rank wait in?"""

from __future__ import annotations

import json
import math
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

KEPT = 1024  # operations that the recorder remembers, the oldest dropped: more than a few steps make
WAITING = ("lepton_lab/strategies/", "torch/distributed/")  # files whose functions wait for other ranks
# Files whose functions wait on behalf of others.
PASSED = (sysconfig.get_paths()["stdlib"], "torch/futures/", "torch/multiprocessing/", "torch/utils/data/")
LOADING = "lepton_lab/engine/loading.py"
SIZES = {"Double": 8, "Long": 8, "Half": 2, "BFloat16": 2, "Byte": 1, "Char": 1, "Bool": 1}  # else 4 bytes a number
# Bytes that a rank of a ring of n sends for each byte that it puts in (nccl's documentation).
FACTORS: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: n - 1,
    "reduce_scatter": lambda n: (n - 1) / n,
    "broadcast": lambda n: (n - 1) / n,
    "send": lambda n: 1,
}
PEER = {"send": "dst", "isend": "dst", "recv": "src", "irecv": "src"}  # argument that names the other rank


def record() -> None:
    """Have torch remember the operations of process groups; to be called before the first of them is made."""
    os.environ["TORCH_FR_BUFFER_SIZE"] = str(KEPT)


def recorded() -> list[dict[str, Any]]:
    """Collective operations of this process, oldest first; none without a process group."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return []
    from torch._C import _distributed_c10d as c10d

    nccl = distributed.get_backend() == "nccl"
    dump = getattr(c10d, "_dump_nccl_trace_json" if nccl else "_dump_fr_trace_json")  # which have no types
    entries = json.loads(dump()).get("entries", [])
    return sorted(entries, key=lambda entry: entry["record_id"])


def waiting() -> str:
    """What this process's main thread waits in, such as "all_reduce of 101,770 numbers"; "" if that can't be told."""
    if unfinished := [entry for entry in recorded() if not entry["retired"]]:
        return _told(unfinished[0])
    return _place(stack())


def stack() -> list[tuple[FrameType, int]]:
    """Frames of this process's main thread and their lines, the innermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return list(traceback.walk_stack(frame)) if frame else []


def broken(error: BaseException) -> str:
    """What a rank waited in when the loss of another ended its wait with this error; "" if that can't be told."""
    if place := _place(reversed(list(traceback.walk_tb(error.__traceback__)))):
        return place
    entries = recorded()  # all count as done now: the one that began last is the nearest to be known
    return _told(entries[-1]) if entries else ""


def named(entry: dict[str, Any]) -> tuple[str, int]:
    """Name of a recorded operation, and how many numbers this rank put into it."""
    return entry["profiling_name"].partition(":")[2], sum(math.prod(size) for size in entry["input_sizes"])


def sent(entry: dict[str, Any], ranks: int) -> float:
    """Bytes that a rank sends for a recorded operation of so many ranks, as its sizes tell."""
    name = named(entry)[0].strip("_").removesuffix("_base").split(" ")[0]
    sizes = zip(entry["input_sizes"], entry["input_dtypes"], strict=True)
    return FACTORS.get(name, lambda n: 0)(ranks) * sum(math.prod(size) * SIZES.get(kind, 4) for size, kind in sizes)


def _told(entry: dict[str, Any]) -> str:
    name, numbers = named(entry)
    return f"{name} of {numbers:,} numbers" if numbers else name


def _place(frames: Iterable[tuple[Any, int]]) -> str:
    """The function that waits for other ranks, from frames of which the innermost comes first; "" if none does."""
    for frame, line in frames:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if (path.startswith(PASSED[0]) and "site-packages" not in path) or any(part in path for part in PASSED[1:]):
            continue
        if path.endswith(LOADING):
            return "a batch of the processes that load the data"
        if path.endswith("distributed_c10d.py"):  # of a collective operation the recorder knows more
            peer = frame.f_locals.get(PEER.get(name, ""))
            return "" if peer is None else f"{name} {'to' if PEER[name] == 'dst' else 'from'} rank {peer}"
        return f"{name} ({Path(path).name}, line {line})" if any(part in path for part in WAITING) else ""
    return ""
