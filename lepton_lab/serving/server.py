"""serve(): an artifact behind HTTP, in a process of its own that ends with this one."""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import secrets
import select
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ..artifacts import Artifact, container
from ..errors import LabError, SpecError, needs
from ..host import child
from ..run.handle import Run
from ..store.trained import ARTIFACT
from .client import Client
from .process import PATIENCE, QUEUE, READY

CODE = "from lepton_lab.serving.process import main; main()"
RULES: dict[str, tuple[bool, float, float, str]] = {
    "port": (True, 0, 2**16, "from 0 to 65535; 0 takes a free one"),
    "batch": (True, 1, math.inf, "at least 1, samples in a call"),
    "wait": (False, 0, 60, "at least 0 and below 60, seconds"),
    "threads": (True, 0, math.inf, "at least 0; 0 takes all cores"),
}
"""Of each number whether it is whole, the least that it may be, what it must be below, and both in words."""

_servers: list[Server] = []  # those of this process, which live as long as it


def serve(
    artifact: Artifact | Run | str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str = "",
    batch: int = 64,
    wait: float = 0.0,
    threads: int = 0,
    detach: bool = False,
) -> Server:
    """
    Put an artifact behind HTTP, and return at once; requests that come before it is ready wait for it.

    It runs in a process of its own, so that this one stays free, and ends with this one.

    Parameters
    ----------
    artifact
        The artifact, its file, or a run that was compressed.
    host
        Address to listen on: this machine alone, unless you name another.
    port
        0 takes a free one.
    token
        That requests must bring; "" makes one up.
    batch
        Samples that one call of the artifact computes at most; requests that wait at the same time share a call (but
        of int8_dynamic, whose scores depend on what else is in a call).
    wait
        Seconds that a call waits for others to share it, 0 or more.
    threads
        That ONNX Runtime computes with; 0 takes all cores.
    detach
        Let it outlive this process; it is then ended by `kill` and the number that `Server.pid` told.

    Raises
    ------
    LabError
        If the file is no good, the address is taken, or the extra [deploy] is not installed.
    SpecError
        If a value is refused.
    """
    order = ordered(artifact, token, port=port, batch=batch, wait=wait, threads=threads)
    with listen(host, port) as listening:
        server = Server(listening, order, detach)
    for other in [other for other in _servers if not other.alive]:
        other.stop()
    _servers.append(server)
    return server


class Server:
    """
    A server as the process sees it that started it; `serve` makes it.

    Attributes
    ----------
    url : str
        Where it answers.
    token : str
        What requests must bring.
    pid : int
        Number of its process.
    """

    def __init__(self, listening: socket.socket, order: dict[str, Any], detach: bool) -> None:
        self.path, self.token = Path(order["path"]), order["token"]
        self.url = url_of(listening)
        self._owner = os.getpid()
        self._failure = self._words = ""
        self._ready = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = [theirs.fileno(), listening.fileno()]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (read when it has ended)
        with theirs:
            self._process = child(
                ["-c", CODE, *map(str, numbers), str(0 if detach else self._owner)],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=numbers,
                start_new_session=True,  # Jupyter's interrupt is not meant for it
            )
        self.pid = self._process.pid
        with contextlib.suppress(OSError):  # it has ended already; `wait` tells why
            self._channel.send(json.dumps(order).encode())

    def __repr__(self) -> str:
        return f"<Server of {self.path.name} at {self.url}, {self.state}>"

    def _repr_html_(self) -> str:
        url = html.escape(self.url)  # the token stays out of saved notebooks
        return (
            f'<p><strong>{html.escape(self.path.name)}</strong> at <a href="{url}/docs">{url}</a>, {self.state}; '
            "requests bring <code>server.token</code>, <code>server.client()</code> does so by itself.</p>"
        )

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    @property
    def state(self) -> str:
        """ "starting", "ready" or "stopped"."""
        self._look(0)
        return ("ready" if self._ready else "starting") if self.alive else "stopped"

    def wait(self, timeout: float = 60.0) -> Server:
        """
        Block until it answers requests; returns itself.

        Raises
        ------
        LabError
            If it ended, with the reason, or needs longer.
        """
        deadline = time.monotonic() + timeout
        # Bit by bit, since another thread may look meanwhile and take the message that it is ready.
        while not self._ready and self.alive and not self._failure and time.monotonic() < deadline:
            self._look(min(0.5, max(0.0, deadline - time.monotonic())))
        self._look(0)
        if not self.alive or self._failure:
            self._process.wait()
            raise LabError(self._failure or f"the server of {self.path.name!r} has stopped{self._last_words()}")
        if not self._ready:
            raise LabError(f"the server of {self.path.name!r} was not ready within {timeout:g} s: wait longer")
        return self

    def client(self, timeout: float = 60.0) -> Client:
        """A `Client` that calls it; its first call waits until the server is ready."""
        return Client(self.url, self.token, timeout)

    def stop(self) -> None:
        """End it, once requests at hand are answered; does nothing to one that has ended."""
        if self._owner != os.getpid():
            return
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE + 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._last_words()
        self._channel.close()
        if self in _servers:
            _servers.remove(self)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _look(self, seconds: float) -> None:
        """Wait so long for what the process says, or for its end: that it is ready, or why it is not."""
        if self._channel.fileno() < 0 or self._ready or self._failure:
            return
        if select.select([self._channel], [], [], seconds)[0]:
            message = self._channel.recv(2**16)
            self._ready = message == READY
            if not self._ready:
                self._failure = message.decode()
                if not message:  # its end of the channel is closed: it is on its way out
                    self._process.wait(PATIENCE)

    def _last_words(self) -> str:
        """The last line that it printed, once it has ended."""
        if not self._errors.closed:
            with self._errors:
                self._errors.seek(0)
                lines = self._errors.read().decode(errors="replace").strip().splitlines()
            self._words = f": {lines[-1][:200]}" if lines else ""
        return self._words


def ordered(artifact: Any, token: str, **numbers: Any) -> dict[str, Any]:
    """
    What a server's process is told: path, token (made up where it is ""), and the numbers of RULES.

    Raises SpecError where a value is refused, LabError where the file is no artifact or serving is not installed.
    """
    path = _file(artifact)
    for name, value in numbers.items():
        whole, low, end, rule = RULES[name]
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise SpecError(f"{name}={value!r}: must be a {'whole ' * whole}number")
        if not low <= value < end:
            raise SpecError(f"{name}={value!r}: must be {rule}")
    if any(not "!" <= letter <= "~" for letter in token):
        raise SpecError("token: must be letters, digits and signs without spaces")
    return {"path": str(path), "token": token or secrets.token_urlsafe(24), **numbers}


def _file(artifact: Any) -> Path:
    """The file of an artifact, once it is known to be whole."""
    if isinstance(artifact, Run):
        path = artifact.folder / ARTIFACT
        if not path.is_file():
            raise LabError(f"run {artifact.id!r} has no artifact: lab.export(run, 'model.lepton') writes one to serve")
    elif isinstance(artifact, (str, os.PathLike, Artifact)):
        path = Path(artifact.path if isinstance(artifact, Artifact) else artifact).absolute()
    else:
        raise SpecError(
            f"artifact={artifact!r}: must be an artifact, its file, or a compressed run; lab.export makes one"
        )
    container.unpack(path)
    needs("serving", "fastapi", "uvicorn")
    return path


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the address is known before the process is up; refused if it can't be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=QUEUE)
    except (OSError, TypeError) as error:
        why = getattr(error, "strerror", "") or error
        raise LabError(f"host={host!r}, port={port}: can't be listened on ({why}); port=0 takes a free one") from None


def url_of(listening: socket.socket) -> str:
    """The address of what is served on a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
