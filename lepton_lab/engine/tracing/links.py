"""What this process sends to others, as the kernel counts it on each connection."""

from __future__ import annotations

import os
import socket
import struct

NOT_SENT, SENT = 144, 200  # offsets in struct tcp_info (linux/tcp.h): bytes written but not yet sent, and sent


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
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            with _copy(int(name)) as link:
                if link.family in (socket.AF_INET, socket.AF_INET6) and link.type == socket.SOCK_STREAM:
                    found[int(name)] = (link.getsockname()[1], link.getpeername()[1])
        except OSError:  # not a socket, not connected, or closed meanwhile
            continue
    return found


def _copy(fd: int) -> socket.socket:
    """A socket of its own on what a file descriptor stands for, which may be closed; OSError if that is no socket."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)  # or each look would leave as many descriptors open as there are
        raise


def _sent(fd: int) -> int:
    try:
        with _copy(fd) as link:
            info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SENT + 8)
    except OSError:
        return 0
    if len(info) < SENT + 8:  # a kernel before 4.19
        return 0
    return struct.unpack_from("I", info, NOT_SENT)[0] + struct.unpack_from("Q", info, SENT)[0]
