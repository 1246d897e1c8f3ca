"""What ranks on several machines tell each other while they work, beside the collectives of their process group."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import PrefixStore

LOOK = 0.02  # seconds between looks for a word that is waited for
BEAT = 1.0  # seconds between signs of life of who keeps others waiting


class Board:
    """
    Words by name, at the store by which the ranks have met: what one wrote, all others read from then on.

    A file that machines share is no place for it: a network's file system may show an older one for seconds.

    Parameters
    ----------
    address, port
        Of that store, which must be there when the first word is written or asked for.
    timeout
        Seconds without an answer, or a sign of life of who keeps others waiting, after which one is lost.
    """

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self._place, self._timeout = (address, port), timeout
        self._heard: dict[str, int] = {}

    @cached_property
    def _store(self) -> PrefixStore:
        from torch.distributed import PrefixStore, TCPStore

        patience = datetime.timedelta(seconds=self._timeout)
        store = TCPStore(*self._place, is_master=False, wait_for_workers=False, timeout=patience)
        _bound(self._place[1], self._timeout)
        return PrefixStore("lepton-lab", store)

    def write(self, name: str, word: str) -> None:
        """Put a word in place of the one before."""
        self._store.set(name, word)

    def read(self, name: str) -> str:
        """
        The word of a name, waited for.

        Raises
        ------
        TimeoutError
            If nobody gives a sign of life who might be at work for it.
        """
        self.wait(lambda: self._store.check([name]), name)
        return self._store.get(name).decode()

    def wait(self, what: Callable[[], bool], name: str) -> None:
        """Wait for something to hold, as `read` does for a word; `name` is what an error calls it."""
        beats, since = -1, time.monotonic()
        while not what():
            if (now := self.count("beats", 0)) != beats:
                beats, since = now, time.monotonic()
            elif time.monotonic() > since + self._timeout:
                raise TimeoutError(f"wait timeout: nobody was at work for {name!r} for {self._timeout:g} s")
            time.sleep(LOOK)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """In the block, do what others wait for, however long it takes."""
        done = threading.Event()

        def beat() -> None:
            with contextlib.suppress(RuntimeError):  # the others are gone, which the block will notice
                while not done.wait(BEAT):
                    self.count("beats")

        thread = threading.Thread(target=beat, name="lepton-beats", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def count(self, name: str, more: int = 1) -> int:
        """Add to a number, 0 at first, and return it."""
        return int(self._store.add(name, more))

    def tell(self, name: str, word: str) -> None:
        """Add a word to those of a name, by the one that writes there; all can read it when this returns."""
        self.write(f"{name}{self.count(name, 0) + 1}", word)
        self.count(name)

    def news(self, name: str) -> str | None:
        """The last of the words that were told and not heard here yet; None where there is none."""
        if (told := self.count(name, 0)) == self._heard.get(name, 0):
            return None
        self._heard[name] = told
        return self._store.get(f"{name}{told}").decode()


def _bound(port: int, timeout: float) -> None:
    """Have connections to a port fail that are silent for so long: torch waits for an answer as long as TCP does."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it went meanwhile, or is not connected
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    internet = connection.family in (socket.AF_INET, socket.AF_INET6)
                    if internet and connection.getpeername()[1] == port:
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * timeout))
