"""The process of a server: takes its socket and its orders, loads the artifact, serves until told, or orphaned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError

if TYPE_CHECKING:
    from fastapi import FastAPI

PATIENCE = 5
"""Seconds that requests at hand have to end when the server stops."""
READY = b"ready"
QUEUE = 4096
"""Connections that wait before they are taken; the kernel may allow fewer."""


def main() -> None:
    """
    Serve what comes over the socket pair given on the command line: its number, that of the listening socket, and the
    process to die with, or 0.
    """
    channel, listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    parent = int(sys.argv[3])
    order = json.loads(channel.recv(2**20))
    try:
        app = load(order)
    except LabError as error:
        channel.send(str(error).encode())
        raise SystemExit(2) from None
    run(app, listening, parent, lambda: channel.send(READY))


def run(app: FastAPI, listening: socket.socket, parent: int = 0, ready: Callable[[], object] | None = None) -> None:
    """
    Serve on a bound socket until SIGTERM or SIGINT, or until the process `parent` dies (0 is none), and close it.

    Requests at hand are answered before that. `ready` is called once requests are answered.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and ready is not None:
                with contextlib.suppress(OSError):  # who started us is gone, and left us to ourselves
                    ready()

    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again at its end what it was told to end by
        signal.signal(number, lambda *_: None)
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    config = uvicorn.Config(app, timeout_graceful_shutdown=PATIENCE, backlog=QUEUE, **quiet)
    asyncio.run(_serve(Server(config), listening, parent))


async def _serve(server: Any, listening: socket.socket, parent: int) -> None:
    def leave() -> None:
        server.should_exit = True

    loop, watched = asyncio.get_running_loop(), None
    if parent:
        try:
            watched = os.pidfd_open(parent)
        except ProcessLookupError:
            return
        if os.getppid() != parent:  # it died while we imported
            return
        loop.add_reader(watched, leave)
    await server.serve(sockets=[listening])
    if watched is not None:
        loop.remove_reader(watched)
        os.close(watched)


def load(order: dict[str, Any]) -> FastAPI:
    """The application that an order of `server.ordered` asks for, warm; raises what `artifacts.load` does."""
    from ..artifacts import load
    from .application import application

    artifact = load(Path(order["path"]), threads=order["threads"])
    artifact.forward(artifact.made_up(1))  # what a runtime does at its first call is done before the first request
    return application(artifact, order["token"], order["batch"], order["wait"])
