"""What studies of several runs have in common: they are waited for, and stopped, together."""

from __future__ import annotations

import math
import time

from ..run.handle import POLL, Run
from ..store.folder import ENDED


class Several:
    """
    Runs that answer one question.

    Attributes
    ----------
    runs : list of Run
        In the order in which they run.
    """

    runs: list[Run]

    def wait(self, timeout: float | None = None) -> list[str]:
        """Block until all have ended, or for `timeout` seconds; returns their states then."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while any(run.state not in ENDED for run in self.runs) and time.monotonic() < deadline:
            time.sleep(POLL)
        return [run.wait(0) for run in self.runs]

    def stop(self) -> None:
        """Stop the run at hand and those to come, each as its turn comes."""
        for run in reversed(self.runs):
            run.stop()
