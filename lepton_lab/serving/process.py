"""The process of a server: takes its socket and its orders, loads the artifact, serves until told, or orphaned."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError

if TYPE_CHECKING:
    from fastapi import FastAPI

PATIENCE = 5
"""Seconds that requests at hand have to end when the server stops."""
READY = b"ready"


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


def run(app: FastAPI, listening: socket.socket, parent: int = 0, ready: Any = None) -> None:
    """
    Serve on a socket until SIGTERM or SIGINT; requests at hand are answered before it ends.

    Parameters
    ----------
    app
        From `application`.
    listening
        Bound; it is closed at the end.
    parent
        A process with whose death this ends too; 0 = none.
    ready
        Called once requests are answered.
    """
    import uvicorn

    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again at its end what it was told to end by
        signal.signal(number, lambda *_: None)
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    config = uvicorn.Config(app, timeout_graceful_shutdown=PATIENCE, backlog=4096, **quiet)
    asyncio.run(_serve(uvicorn.Server(config), listening, parent, ready))


async def _serve(server: Any, listening: socket.socket, parent: int, ready: Any) -> None:
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
    if ready is not None:
        loop.create_task(_tell(server, ready))
    await server.serve(sockets=[listening])
    if watched is not None:
        loop.remove_reader(watched)
        os.close(watched)


async def _tell(server: Any, ready: Any) -> None:
    while not server.started and not server.should_exit:
        await asyncio.sleep(0.005)
    if server.started:
        try:
            ready()
        except OSError:  # who started us is gone, and left us to ourselves
            return


def load(order: dict[str, Any]) -> FastAPI:
    """The application that an order asks for, warm."""
    from ..artifacts import load
    from .application import application

    artifact = load(Path(order["path"]), threads=order["threads"])
    artifact.forward(_zeros(artifact))  # what a runtime does at its first call is done before the first request
    return application(artifact, order["token"], order["batch"], order["wait"])


def _zeros(artifact: Any) -> Any:
    import numpy as np

    return np.zeros((1, *artifact.input_shape), artifact.dtype)
