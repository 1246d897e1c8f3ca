"""Dynamic batching: requests that wait at the same time are computed by one call."""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..artifacts.inputs import count as size
from ..batches import leaves, over

MOST_WAITING = 4096
"""Requests that may wait; what comes beyond is told to try again, instead of filling the memory."""

Compute = Callable[[Any], Any]
Waiting = tuple[Any, asyncio.Future[Any]]


class Full(Exception):
    """Too many requests wait already."""


class Batcher:
    """
    Collects requests while a call is under way, and computes them together in the next.

    Under load batches so form by themselves, and a request that comes alone waits for nobody.

    Parameters
    ----------
    compute
        A batch, an array (B, *shape) or a dict of them by name, -> (B, K), a dict of such by name, or a list of B of
        whatever, in a thread of its own, one call at a time.
    most
        Samples in a call; a single request of more is computed in parts.
    wait
        Seconds that a call waits for others to join it.
    apart
        Whether each request has calls of its own, for models whose scores of a sample depend on the others in its call.

    Attributes
    ----------
    requests, samples, calls : int
        What was computed so far.
    """

    def __init__(self, compute: Compute, most: int = 64, wait: float = 0.0, apart: bool = False) -> None:
        self._compute, self._most, self._wait, self._apart = compute, most, 0.0 if apart else wait, apart
        self._waiting: deque[Waiting] = deque()
        self._come = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "lepton-lab-compute")
        self.requests = self.samples = self.calls = 0

    async def __call__(self, samples: Any) -> Any:
        """Scores of a batch; Full if too many requests wait already."""
        if len(self._waiting) >= MOST_WAITING:
            raise Full
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((samples, future))
        self._come.set()
        return await future

    async def run(self) -> None:
        """Compute what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._come.wait()
                if self._wait and sum(size(samples) for samples, _ in self._waiting) < self._most:
                    await asyncio.sleep(self._wait)
                requests = self._next()
                if not requests:
                    continue
                samples = [samples for samples, _ in requests]
                results = await loop.run_in_executor(self._thread, self._together, samples)
                for (_, future), result in zip(requests, results, strict=True):
                    if future.done():  # nobody waits for it any more
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._thread.shutdown(wait=False)

    def _next(self) -> list[Waiting]:
        """The requests of the next call: as many as fit and are of one shape, and at least one."""
        requests: list[Waiting] = []
        count = 0
        most = 0 if self._apart else self._most
        others: list[Waiting] = []
        while self._waiting and (not requests or count + size(self._waiting[0][0]) <= most):
            samples, future = self._waiting.popleft()
            if future.cancelled():
                continue
            if requests and _shapes(samples) != _shapes(requests[0][0]):
                others.append((samples, future))
                continue
            requests.append((samples, future))
            count += size(samples)
        self._waiting.extendleft(reversed(others))
        if not self._waiting:
            self._come.clear()
        return requests

    def _together(self, requests: list[Any]) -> list[Any]:
        """One result for each request; where a call fails, each alone, so that one does not fail the others."""
        self.requests += len(requests)
        try:
            scores = self._call(_joined(requests))
        except Exception as error:
            if len(requests) == 1:
                return [error]
            self.requests -= len(requests)  # they count again below
            return [self._together([request])[0] for request in requests]
        ends = np.cumsum([size(request) for request in requests]).tolist()
        return [_cut(scores, slice(begin, end)) for begin, end in zip([0, *ends], ends, strict=False)]

    def _call(self, samples: Any) -> Any:
        n = size(samples)
        parts = [_cut(samples, slice(i, i + self._most)) for i in range(0, n, self._most)]
        self.calls += len(parts)
        self.samples += n
        scores = _joined([self._compute(part) for part in parts])
        if (given := size(scores)) != n:
            raise ValueError(f"it gives {given} scores for {n} samples")
        return scores


def _shapes(samples: Any) -> list[tuple[int, ...]]:
    """Shapes of a sample, by which batches can be joined."""
    return [array.shape[1:] for array in leaves(samples)]


def _joined(batches: list[Any]) -> Any:
    """Batches of one shape as one, or scores of them."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, dict):
        return {name: np.concatenate([batch[name] for batch in batches]) for name in first}
    return [one for batch in batches for one in batch] if isinstance(first, list) else np.concatenate(batches)


def _cut(batch: Any, places: slice) -> Any:
    """Some samples of a batch, or of scores."""
    return batch[places] if isinstance(batch, list) else over(operator.itemgetter(places), batch)
