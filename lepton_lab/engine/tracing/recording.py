"""What is recorded of some steps: spans of work and of communication, a rise of memory, bytes sent to others."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

MARK = "lepton_lab::step"
# Nanoseconds between operators that still count as work, Python's part of it: so many, or fewer during communication.
GAP, SHORT = 500_000, 50_000
# Events that hold others, waits among them.
CONTAINERS = ("autograd::", "torch::autograd::", "c10d::", "_c10d_functional::", "FSDP::", MARK)
PEERS = {"c10d::send": "send", "c10d::recv_": "recv"}  # they know the other rank, gloo's own events don't
# Bytes of a number; else 4.
SIZES = {"double": 8, "long int": 8, "c10::Half": 2, "c10::BFloat16": 2}
SIZES |= {"unsigned char": 1, "signed char": 1, "bool": 1}
# Offsets in struct tcp_info (linux/tcp.h): bytes written but not yet sent, sent, and of these sent once more.
NOT_SENT, SENT, AGAIN = 144, 200, 208

Span = tuple[int, int]  # begin and end


class Recording:
    """
    What happened in some steps, each of which is marked by an event of the name MARK.

    Attributes
    ----------
    marks : list of (begin, end)
        The steps, in nanoseconds of unix time.
    operations : list of dict
        Communication in order of begin: name, begin, end, numbers, bytes, and the peer of a send or recv.
    """

    def __init__(self, events: Iterable[Any], device: str) -> None:
        self._gpu = gpu = device == "cuda"
        self._memory: list[tuple[int, int]] = []
        self._work: list[Span] = []
        self._phases: dict[str, list[Span]] = {"backward": [], "update": []}
        self.operations: list[dict[str, Any]] = []
        self.marks: list[Span] = []
        peers: dict[str, deque[int | None]] = defaultdict(deque)
        events = sorted(events, key=lambda event: event.start_ns())
        main = next((event.start_thread_id() for event in events if event.name() == MARK), None)
        for event in events:
            name, begin = event.name(), event.start_ns()
            span = (begin, begin + event.duration_ns())
            on_gpu = gpu and event.device_type().name == "CUDA"
            if name == "[memory]":
                self._memory.append((begin, event.nbytes()))
            elif name in PEERS:
                numbers = event.concrete_inputs()
                peers[PEERS[name]].append(numbers[2] if len(numbers) > 2 else None)
            elif name == MARK:
                if on_gpu == gpu:
                    self.marks.append(span)
            elif name.startswith("gloo:") or (on_gpu and name.startswith("nccl")):
                self.operations.append(_operation(event, name, span, peers))
            elif on_gpu or (not gpu and event.start_thread_id() == main):
                self._sort_in(name, span)

    def _sort_in(self, name: str, span: Span) -> None:
        if name.startswith("autograd::engine::evaluate_function"):
            self._phases["backward"].append(span)
        elif name.startswith("Optimizer.step#"):
            self._phases["update"].append(span)
        elif (
            self._gpu
            or ("::" in name and not name.startswith(CONTAINERS))
            or name.startswith("## Call CompiledFxGraph")
        ):
            self._work.append(span)

    def spans(self, first: int) -> list[dict[str, Any]]:
        """Work and communication within the steps from number `first` on, in order of time."""
        steps = self.marks[first:]
        operators = union(self._work, SHORT)
        communication = union((o["begin"], o["end"]) for o in self.operations)
        # Between two operators is Python's part of the work, unless the rank waits for an operation there.
        work = cut(subtract(union(operators, GAP), subtract(communication, operators)), steps)
        inside = [o for o in self.operations if any(a <= o["begin"] < b for a, b in steps)]
        spans = [{"kind": "communication", **o} for o in inside]
        for name, part in self._phases_of(work, steps).items():
            spans += [{"kind": "compute", "name": name, "begin": begin, "end": end} for begin, end in part]
        return sorted(spans, key=lambda span: span["begin"])

    def _phases_of(self, work: list[Span], steps: list[Span]) -> dict[str, list[Span]]:
        """Work by part of a step; what comes after the last of backward prepares the update."""
        if self._gpu:
            return {"kernels": work}
        backward: list[Span] = []
        update: list[Span] = []
        for step in steps:  # each by itself, since whole steps of a small model are closer to each other than GAP
            parts = [union(cut(union(self._phases[name]), [step]), GAP) for name in ("backward", "update")]
            backward += parts[0]
            update += parts[1] + [(end, step[1]) for _, end in parts[0][-1:]]
        update = subtract(union(update), backward)
        forward = subtract(subtract(work, backward), update)
        return {"forward": forward, "backward": cut(work, backward), "update": cut(work, update)}

    def rise(self) -> int:
        """Highest bytes allocated in the last step on top of what was there at its begin."""
        held = highest = 0
        begin, end = self.marks[-1]
        for t, size in self._memory:
            if begin <= t <= end:
                held += size
                highest = max(highest, held)
        return highest


def _operation(event: Any, name: str, span: Span, peers: dict[str, deque[int | None]]) -> dict[str, Any]:
    name = name.partition(":")[2] or name
    shapes, kinds = event.shapes(), event.dtypes()
    counts = [math.prod(shape) for shape in shapes]
    size = sum(count * SIZES.get(kind, 4) for count, kind in zip(counts, kinds, strict=False))
    operation = {"name": name, "begin": span[0], "end": span[1], "numbers": sum(counts), "bytes": size}
    if peers.get(name):
        operation["peer"] = peers[name].popleft()
    return operation


def union(spans: Iterable[Span], gap: int = 0) -> list[Span]:
    """The same time as spans apart from each other and in order; those closer than `gap` become one."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1] + gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def subtract(spans: list[Span], others: list[Span]) -> list[Span]:
    """What of `spans` is in none of `others`; both as `union` gives them."""
    left = []
    for begin, end in spans:
        i = max(bisect(others, (begin, begin)) - 1, 0)
        while i < len(others) and others[i][0] < end:
            start, stop = others[i]
            if begin < start:
                left.append((begin, start))
            begin = max(begin, stop)
            i += 1
        if begin < end:
            left.append((begin, end))
    return left


def cut(spans: list[Span], windows: list[Span]) -> list[Span]:
    """What of `spans` is in any of `windows`; both as `union` gives them."""
    return subtract(spans, subtract(spans, windows))


class Links:
    """The TCP connections that are open now, and what is sent on them between `begin` and `end`."""

    def __init__(self) -> None:
        self._open = _connections()
        self._sent = dict.fromkeys(self._open, 0)

    def begin(self) -> None:
        """Count from here on."""
        self._before = {fd: _sent(fd) for fd in self._open}

    def end(self) -> None:
        """Up to here; each further `begin` and `end` add to it."""
        for fd, before in self._before.items():
            self._sent[fd] += _sent(fd) - before

    def sent(self) -> list[tuple[int, int, int]]:
        """Of each connection our port, the other's port, and bytes sent."""
        return [(*self._open[fd], sent) for fd, sent in self._sent.items()]


def _connections() -> dict[int, tuple[int, int]]:
    """Ports at both ends of each connection, by file descriptor."""
    ports = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # not a socket, not connected, or closed meanwhile
            with _copy(int(name)) as link:
                if link.family in (socket.AF_INET, socket.AF_INET6) and link.type == socket.SOCK_STREAM:
                    ports[int(name)] = (link.getsockname()[1], link.getpeername()[1])
    return ports


def _copy(fd: int) -> socket.socket:
    """A socket of its own on what a file descriptor stands for, which may be closed; OSError if that is no socket."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)  # or each look would leave as many descriptors open as there are
        raise


def _sent(fd: int) -> int:
    with contextlib.suppress(OSError, struct.error):  # closed meanwhile; a kernel before 4.19, which tells less
        with _copy(fd) as link:
            info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, AGAIN + 8)
        waits, (sent, again) = struct.unpack_from("I", info, NOT_SENT)[0], struct.unpack_from("QQ", info, SENT)
        return waits + sent - again  # what a busy machine repeats is no more to send
    return 0
