"""Work beside the kernel of which only the newest wish counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Result = TypeVar("Result")


class Newest(Generic[Wish, Result]):
    """Answers wishes one after the other in a thread, and passes over those that were followed by others meanwhile.

    Parameters
    ----------
    work : callable
        Gives the answer to a wish; what it raises is told.
    tell : callable
        Is given the answer to the newest wish, or None, and the error, or None.
    name : str
        Of the thread.

    Attributes
    ----------
    busy : bool
        Whether the newest wish is not answered yet.
    """

    def __init__(
        self,
        work: Callable[[Wish], Result],
        tell: Callable[[Result | None, Exception | None], object],
        name: str,
    ) -> None:
        self._work, self._tell, self._name = work, tell, name
        self._lock = threading.Lock()
        self.busy = False
        self._wish: Wish

    def ask(self, wish: Wish, wait: bool = False) -> None:
        """Wish for something; nothing waits for it unless asked to."""
        with self._lock:
            self._wish = wish
            if self.busy:
                return
            self.busy = True
        if wait:
            self._answer()
        else:
            threading.Thread(target=self._answer, name=self._name, daemon=True).start()

    def _answer(self) -> None:
        while True:
            wish = self._wish
            result: Result | None = None
            error: Exception | None = None
            try:
                result = self._work(wish)
            except Exception as refused:
                error = refused
            with self._lock:
                if wish == self._wish:  # else it is asked for something else meanwhile
                    self.busy = False
                    self._tell(result, error)  # before the lock is free, or an older one might come last
                    return
