"""Clocks: time in turns, and memory at its highest."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..switches import switched

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
AGAIN = 4
"""Untimed calls of a turn: a small model's first calls after a large one's take up to three times as long."""
SLOW = 0.01  # seconds of a call to which it makes no difference what was in the caches before
MOST, LEAST = 20.0, 5
"""Seconds after which no further round begins, and rounds that are timed all the same."""
PEAK = "5"  # what, written to clear_refs, sets the highest resident memory back to that of now


def in_turn(
    calls: Sequence[Callable[[], object]], repeats: int, warmup: int, done: Callable[[int], object] = int
) -> list[tuple[list[float], float]]:
    """
    Seconds of each call and repeat, and CPU seconds of all threads of each call over all repeats.

    Calls take turns, A B C A B C, so that what disturbs the machine disturbs all alike. A turn is AGAIN calls that are
    not timed, which bring back to the caches what the others took, and one that is: who deploys a model calls it again
    and again. Calls that take longer than SLOW have none that are not timed. `warmup` rounds come before the `repeats`
    that are timed, both at most: after MOST seconds a slow model has no more, though LEAST are timed. `done` is called
    before each with their number so far.
    """
    least, started = [0.0] * len(calls), time.perf_counter()
    for i in range(warmup):
        if time.perf_counter() - started > MOST / 2:
            break
        done(i)
        for place, call in enumerate(calls):
            begin = time.perf_counter()
            call()
            took = time.perf_counter() - begin
            least[place] = min(took, least[place] or took)  # or one that was disturbed would say how all are timed
    again = [0 if seconds >= SLOW else AGAIN for seconds in least]
    seconds: list[list[float]] = [[] for _ in calls]
    busy = [0.0] * len(calls)
    gc.collect()
    with switched(gc.isenabled, _collecting, False):
        for turn in range(repeats):
            if turn >= LEAST and time.perf_counter() - started > MOST:
                break
            done(warmup + turn)
            for i, call in enumerate(calls):
                for _ in range(again[i]):
                    call()
                begin, busy_begin = time.perf_counter(), time.process_time()
                call()
                seconds[i].append(time.perf_counter() - begin)
                busy[i] += time.process_time() - busy_begin
    return list(zip(seconds, busy, strict=True))


def peak_memory(call: Callable[[], object]) -> int | None:
    """Bytes by which this process's resident memory rose, at its highest, during a call; None where not known."""
    gc.collect(1)  # what is young: a full collection takes a third of a second where torch's exporter is imported
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed must not hide what is taken
        CLEAR.write_text(PEAK)
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):  # not Linux, or not allowed
        return None


def _status(name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M)
    if not match:
        raise OSError(f"no {name}")
    return int(match[1]) * 1024


def _collecting(enabled: bool) -> None:
    """Let the garbage collector run or not: in the middle of a forward pass it would be counted to that."""
    (gc.enable if enabled else gc.disable)()
