"""A Dataset, read by processes of its own that go on from epoch to epoch: what goes wrong in one is said as there."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..batches import held, tensors
from ..datasets import Stream
from ..host import die_with_parent
from .faults import Fault, LoadError, late, lost
from .packing import Packed, Slots, packed, unpacked
from .reading import Answer, Request, Samples

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from ..datasets import Collate
    from .reading import Loaded

LONGEST = 1e6  # seconds that a queue can wait
# Of what is read together, at most: small batches cost less to make than to hand over, one by one, to another process.
BATCHES, BYTES, SECONDS = 16, 2**20, 0.02
AHEAD = 2  # such readings that a process is ahead
# A batch that takes less to read than so many seconds, to hand over and to share the cores for, is read in the rank.
HANDED = 0.001
JUDGED = 8  # batches that are read before it is known
OPENED = 0.1  # seconds that a stream may take to begin, which is begun again there
SLOTS = 256  # of all processes, at most: half a GiB where batches fill them, and more is refused by a small machine


@dataclass(eq=False)
class Pass:
    """Once through some batches of a Dataset."""

    batches: Iterable[list[int]]
    """Indices of each; those that are still to be asked for, once it has begun."""
    seed: int
    """Random transforms draw from this and a sample's index alone."""
    epoch: int | None = None
    """Is told to the Dataset; None of an evaluation."""
    following: Callable[[], Pass | None] = lambda: None
    """Asked once all batches are: the pass that processes go on with, so that none waits where an epoch ends."""
    count: int | None = None
    """How many batches there are, known once all of them are asked for."""
    next: Pass | None = None
    """What followed, from then on."""


class Loader:
    """
    The batches of a Dataset, in order, pass after pass.

    Parameters
    ----------
    dataset
        Gives samples by index: (x, y) where there is no `collate`.
    workers
        Processes that read ahead; 0 reads here. They begin with the first pass, and end with `close` or the loader.
    timeout
        Seconds that such a process may take for a batch, whatever it reads together.
    pinned
        Whether tensors are to be copied to a GPU.
    collate
        Makes a batch of a list of samples; None stacks the x and y of pairs.
    prefetch
        Batches that each process is ahead; 0 chooses, by their size and the time that they take.
    chooses
        Whether a stream's processes end, and it is read on here, where its first batches show that this takes less of
        the cores. `timeout` is no limit then.
    """

    def __init__(
        self,
        dataset: Any,
        workers: int,
        timeout: float,
        pinned: bool = False,
        collate: Collate | None = None,
        prefetch: int = 0,
        chooses: bool = False,
    ) -> None:
        self.chooses = chooses
        self.workers, self.timeout, self.pinned, self.prefetch = workers, timeout, pinned, prefetch
        self._samples = Samples(dataset, collate)
        self._passes, self._together = 0, 1
        self._read, self._seconds = 0, 0.0  # of the processes: batches, and what all but the first took
        self._leaves = False  # to ask the processes for no more
        self._asked = _Asked()
        self._loader: DataLoader[Any] | None = None
        self._notes = -1
        self._slots: Slots | None = None
        self._ahead: tuple[Pass | None, Any] = None, None  # what is read already, and where it comes from

    def read(self, batches: Iterable[list[int]], seed: int, epoch: int | None = None) -> Iterator[Loaded]:
        """A pass through some batches, by itself: see `through`."""
        return self.through(Pass(batches, seed, epoch))

    def through(self, asked: Pass) -> Iterator[Loaded]:
        """
        The batches of a pass; one that followed the pass before it is read already as far as processes are ahead.

        Raises
        ------
        LoadError
            What one of the processes said, that it ended, or that it gave nothing in time and where it stands.
        """
        if self.workers:
            yield from self._handed(asked)
        if not self.workers:
            for request in self._requests(asked):
                yield from self._taken(self._samples.read(request))

    def _handed(self, asked: Pass) -> Iterator[Loaded]:
        """The batches of a pass from the processes: all, or the first of them where these are left."""
        (ahead, source), self._ahead = self._ahead, (None, None)
        taken = 0
        if self._leaves and ahead is not asked:
            self._leave()
            return
        try:
            if ahead is not asked:
                self._asked.requests = self._chained(asked)
                source = iter(self._opened())
            while taken != asked.count and (answer := self._next(source)) is not None:
                if isinstance(answer, Fault):
                    raise LoadError(answer)
                answer = Answer(*unpacked(Packed(*answer), self._slots))
                self._judge(answer)
                yield from self._taken(answer)
                taken += len(answer.batches)
            if taken == asked.count:
                self._ahead = asked.next, source
            else:  # no more was asked for
                self._leave()
        except (RuntimeError, OSError, EOFError) as error:  # the loader's own: a process that ended, or is late
            fault = lost(error, self._notes, self.timeout)
            del source
            self.close()
            raise LoadError(fault) from None
        except LoadError:
            del source  # its processes end now, and not when the traceback is forgotten
            self.close()
            raise

    def holds(self, asked: Pass | None) -> bool:
        """Whether it goes on with a pass, which followed one that was read to its end."""
        return asked is not None and self._ahead[0] is asked

    def close(self) -> None:
        """End its processes; a later pass begins others."""
        self._ahead = None, None
        if self._loader is not None:
            self._loader = None
            self._closed()

    def _judge(self, answer: Answer) -> None:
        """Leave the processes where their first batches were worth none, once and for all."""
        if not self.chooses:
            return
        if not self._read:  # with what the stream takes to begin
            self.chooses = answer.seconds < OPENED
        else:
            self._seconds += answer.seconds
        self._read += len(answer.batches)
        if self._read >= JUDGED:
            self._leaves = self.chooses and self._seconds < HANDED * self._read
            self.chooses = False

    def _leave(self) -> None:
        self.workers, self._slots = 0, None
        self.close()

    def _chained(self, asked: Pass) -> Iterator[Request]:
        """The requests of a pass, and of those that follow."""
        at: Pass | None = asked
        while at is not None:
            yield from self._requests(at)
            at = at.next

    def _requests(self, asked: Pass) -> Iterator[Request]:
        if self._leaves and self.workers:
            return
        self._passes += 1
        asked.batches, number, count = iter(asked.batches), self._passes, 0
        while together := list(islice(asked.batches, self._together)):
            count += len(together)
            yield Request(number, asked.seed, asked.epoch, together)
            if self._leaves and self.workers:
                return
        asked.count, asked.next = count, asked.following() if self.workers else None

    def _taken(self, answer: Answer) -> list[Loaded]:
        """The batches; how many are read together follows what these took."""
        count = len(answer.batches)
        size = sum(held(leaf).nbytes for leaf in tensors(answer.batches)) / count
        fitting = min(BYTES / max(size, 1), SECONDS * count / max(answer.seconds, 1e-9))
        self._together = 1 if self.prefetch else max(1, min(int(fitting), 2 * self._together, BATCHES))
        return answer.batches

    def _next(self, source: Any) -> Any:
        """
        What a process gives next; None at the end.

        A process that reads several batches together may take the time for each: it is waited for from the beginning
        of the batch that it is at.
        """
        since, limit = time.monotonic(), min(self.timeout, LONGEST)
        while True:
            try:
                answer = next(source, None)
            except RuntimeError as error:
                begun = min((moment for moment in self._begun if moment), default=0.0)
                left = max(since, begun) + limit - time.monotonic()
                if not late(error) or left <= 0:
                    raise
                source._timeout = left  # torch has no other way to set it; without, a late batch is only seen later
            else:
                source._timeout = limit
                return answer

    def _opened(self) -> DataLoader[Any]:
        import torch

        if self._loader is None:
            self._begun = memoryview(mmap.mmap(-1, 8 * self.workers)).cast("d")
            self._notes = os.memfd_create("lepton-lab-loading")
            self._closed = weakref.finalize(self, os.close, self._notes)
            # What is to be copied to a GPU goes through memory of its own, which torch pins as it arrives.
            each = (self.prefetch or AHEAD) + 1
            self._slots = None if self.pinned or self.workers * each > SLOTS else Slots(self.workers, each)
            samples: Any = Served(self._samples, self._begun, self._slots)  # all that a DataLoader asks of a Dataset
            self._loader = torch.utils.data.DataLoader(
                samples,
                batch_sampler=self._asked,  # type: ignore[arg-type]
                collate_fn=lambda batch: batch,
                num_workers=self.workers,
                worker_init_fn=partial(_begin, self._notes),
                pin_memory=self.pinned,
                generator=torch.Generator(),  # draws nothing from the generator that dropout uses
                timeout=min(self.timeout, LONGEST),
                prefetch_factor=self.prefetch or AHEAD,
                persistent_workers=True,
                # Forked, so that what a cell defined is there as it is; nothing but tensors and a Fault comes back.
                multiprocessing_context="fork",
            )
        return self._loader


class _Asked:
    """What a DataLoader takes for a sampler: the requests of the pass at hand."""

    requests: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.requests


class Served:
    """Samples in a loading process."""

    def __init__(self, samples: Samples, begun: memoryview[float], slots: Slots | None) -> None:
        self.samples, self.slots = samples, slots
        self.begun = begun
        """When each process began with the batch that it is at, as `time.monotonic` says it everywhere; 0 of none."""
        self.place, self.turn = 0, 0

    def __getitems__(self, request: Request) -> Packed | Fault:
        """What was read; an exception of any kind is returned, for not every one can be pickled."""
        try:
            self.turn += 1
            return packed(self.samples.read(request, self._begins), self.slots, self.place, self.turn)
        except BaseException as error:  # a user's code may call exit(), too
            return Fault.of(error)
        finally:
            self.begun[self.place] = 0.0

    def _begins(self) -> None:
        self.begun[self.place] = time.monotonic()


def _begin(notes: int, worker: int) -> None:
    """In a loading process: it must not outlive its rank, however that dies, and says where it stands when asked."""
    from torch.utils.data._utils import worker as torchs

    die_with_parent()
    served: Served = torchs._worker_info.dataset  # type: ignore[union-attr, assignment]  # there is one here
    served.place = worker
    if isinstance(served.samples.dataset, Stream):
        torchs._worker_info = None  # its only reader: one that shuffles by worker is to read alike in a rank and here
    os.write(notes, f"{os.getpid()}\n".encode())
    faulthandler.register(signal.SIGUSR1, notes, all_threads=False)
