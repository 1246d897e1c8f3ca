"""A map-style Dataset, read by processes of its own: what goes wrong in one of them comes back in its own words."""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batches import over, tensors
from ..datasets import Stream, collated, drawing
from ..errors import LabError, SpecError
from ..host import die_with_parent

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    from ..datasets import Collate

    # A batch, which is a pair (x, y) where no collate makes another; and the index of a sample with NaN or infinity in
    # it, or -1.
    Loaded = tuple[Any, int]

ENDED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")
STACK = re.compile(r'File "(.+)", line (\d+) in')  # as faulthandler writes it, the innermost first
LONGEST = 1e6  # seconds that a queue can wait
ANSWER = 1.0  # seconds that a loading process that stands still has to say where


@dataclass(frozen=True)
class Fault:
    """An exception as plain values, which any process can read."""

    type: str
    message: str
    frames: tuple[tuple[str, int], ...]
    """File and line of each call, the innermost last."""
    text: str
    """The traceback as Python prints it."""

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """What an exception says; that of a loading process says what was said there."""
        if isinstance(error, LoadError):
            return error.fault
        if ENDED.match(str(error)):  # torch raises it at the signal, wherever the rank is at that moment
            return _ended(error)
        frames = tuple((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__))
        return cls(type(error).__name__, str(error), frames, printed(error))


class LoadError(LabError):
    """What went wrong in a loading process."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.type}: {fault.message}")
        self.fault = fault


def load(
    dataset: Dataset[Any],
    batches: list[list[int]],
    seed: int,
    workers: int,
    timeout: float,
    pinned: bool = False,
    collate: Collate | None = None,
) -> Iterator[Loaded]:
    """
    Batches of a Dataset, in order.

    Parameters
    ----------
    dataset
        Gives samples by index: (x, y) where there is no `collate`.
    batches
        Indices of each batch.
    seed
        Its random transforms draw from this and a sample's index alone.
    workers
        Processes that read ahead; 0 reads here.
    timeout
        Seconds that such a process may take for a batch.
    pinned
        Whether tensors are to be copied to a GPU.
    collate
        Makes a batch of a list of samples; None stacks the x and y of pairs.

    Raises
    ------
    LoadError
        What one of the processes said, that it ended, or that it gave nothing in time and where it stands.
    """
    import torch

    with os.fdopen(os.memfd_create("lepton-lab-loading"), "wb") as notes:
        samples: Any = Samples(dataset, seed, collate)  # all that a DataLoader asks of a Dataset
        loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            samples,
            batch_sampler=batches,
            collate_fn=lambda batch: batch,
            num_workers=workers,
            worker_init_fn=partial(_begin, notes.fileno()),
            pin_memory=pinned,
            generator=torch.Generator().manual_seed(seed),  # draws nothing from the generator that dropout uses
            timeout=min(timeout, LONGEST) if workers else 0,
            # Forked, so that what a cell defined is there as it is; nothing but tensors and a Fault comes back.
            multiprocessing_context="fork" if workers else None,
        )
        source = iter(loader)
        try:
            for batch in source:
                if isinstance(batch, Fault):
                    raise LoadError(batch)
                yield batch
        except (RuntimeError, OSError, EOFError) as error:  # the loader's own: a process that ended, or is late
            if not workers:
                raise
            raise LoadError(_lost(error, notes.fileno(), timeout)) from None
        finally:
            del source  # its processes end now, and not when the traceback is forgotten


class Samples:
    """
    A Dataset read batch by batch, whose random transforms draw from seed, epoch and index alone.

    So a sample looks the same whatever the rank, the loading process and the point of a resume, and what the model
    draws for dropout is left alone.
    """

    def __init__(self, dataset: Any, seed: int, collate: Collate | None = None) -> None:
        self.dataset, self.seed, self.collate = dataset, seed, collate

    def __getitem__(self, index: int) -> Any:
        with drawing(self.seed, index):
            return self.dataset[index]

    def _read(self, indices: list[int]) -> Iterable[Any]:
        if isinstance(self.dataset, Stream):
            return self.dataset.read(indices, self.seed % 2**32)
        return (self[index] for index in indices)

    def __getitems__(self, indices: list[int]) -> Loaded | Fault:
        """A batch; in a loading process an exception of any kind is returned, for not every one can be pickled."""
        from torch.utils.data import get_worker_info

        if get_worker_info() is None:
            return self._batch(indices)
        try:
            batch, unsound = self._batch(indices)
            # Here, where a full /dev/shm is an exception, and not in the queue's thread, which would drop the batch.
            return shared(batch), unsound
        except BaseException as error:  # a user's code may call exit(), too
            return Fault.of(error)

    def _batch(self, indices: list[int]) -> Loaded:
        numbers = [_number(self.dataset, index) for index in indices]
        if self.collate is not None:
            samples = list(self._read(indices))
            with drawing(self.seed, -1 - indices[0]):  # of a collate that masks at random
                batch = collated(self.collate, samples)
            return batch, _unsound(batch, numbers)
        samples = [_pair(sample, number) for sample, number in zip(self._read(indices), numbers, strict=True)]
        x, y = (_stacked([sample[i] for sample in samples], name, numbers) for i, name in enumerate("xy"))
        return (x, y), _unsound((x, y), numbers)


def _number(dataset: Any, index: int) -> int:
    """The index by which a user knows a sample: where a part was cut from a Dataset, that in the whole."""
    from torch.utils.data import Subset

    return _number(dataset.dataset, dataset.indices[index]) if type(dataset) is Subset else index


def _pair(sample: Any, number: int) -> tuple[Any, Any]:
    try:
        x, y = sample
    except (TypeError, ValueError):
        raise SpecError(f"data: sample {number} is a {type(sample).__name__}, not a pair (x, y)") from None
    return x, y


def _stacked(values: list[Any], name: str, numbers: list[int]) -> Tensor:
    """The samples' x or y as one plain tensor (B, ...), that needs no class of a cell to be read."""
    import torch
    from torch.utils.data import default_collate

    shapes = [tuple(getattr(value, "shape", ())) for value in values]
    for number, shape in zip(numbers, shapes, strict=True):
        if shape != shapes[0]:
            raise SpecError(
                f"data: sample {numbers[0]} has {name} of shape {shapes[0]} and sample {number} of {shape}; "
                "pad or crop them, or give collate=lab.Pad(), since a batch holds samples of one shape"
            )
    try:
        batch = default_collate([value.detach() if isinstance(value, torch.Tensor) else value for value in values])
    except TypeError:
        batch = None
    if not isinstance(batch, torch.Tensor):
        kind = type(values[0]).__name__
        raise SpecError(f"data: sample {numbers[0]} has a {kind} as {name}; make it a tensor or a number")
    return batch.as_subclass(torch.Tensor)


def shared(batch: Any) -> Any:
    """The same batch, its tensors in memory that processes share."""
    import torch

    return over(lambda leaf: leaf.share_memory_() if isinstance(leaf, torch.Tensor) else leaf, batch)


def _unsound(batch: Any, numbers: list[int]) -> int:
    """Index of the first sample with NaN or infinity in it, or -1; where rows are no samples, of the first."""
    for values in tensors(batch):
        if values.is_floating_point() and not values.sum().isfinite():  # which has a bool for each number only then
            rows = values.isfinite().flatten(1).all(1) if values.dim() > 1 else values.isfinite()
            if not rows.all():
                return numbers[int(rows.int().argmin()) if rows.shape == (len(numbers),) else 0]
    return -1


def _begin(notes: int, worker: int) -> None:
    """In a loading process: it must not outlive its rank, however that dies, and says where it stands when asked."""
    die_with_parent()
    os.write(notes, f"{os.getpid()}\n".encode())
    faulthandler.register(signal.SIGUSR1, notes, all_threads=False)


def _lost(error: Exception, notes: int, timeout: float) -> Fault:
    """What is known of a loading process that ended, or gave nothing in time."""
    if "timed out" not in str(error):
        return _ended(error)
    message = f"the data gave no batch for {timeout:g} s (timeout={timeout:g})"
    return Fault("Stuck", message, _stands(notes), printed(error))


def _ended(error: BaseException) -> Fault:
    """What is known of a loading process that ended."""
    cause = "out of memory, killed, or a crash in native code"
    if "Bus error" in str(error):
        free = shutil.disk_usage("/dev/shm").free
        cause = f"/dev/shm, through which batches pass, is full: {free // 2**20:,} MiB are free"
    return Fault("LoadError", f"a process that loads the data ended unasked ({cause})", (), printed(error))


def printed(error: BaseException) -> str:
    """The traceback as Python prints it."""
    return "".join(traceback.format_exception(error))


def _stands(notes: int) -> tuple[tuple[str, int], ...]:
    """Where a loading process stands that has a sample at hand, the innermost call last; () if none can tell."""
    for pid in [int(line) for line in os.pread(notes, 2**16, 0).split(b"\n") if line.isdigit()]:
        begin = os.fstat(notes).st_size
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            continue
        deadline = time.monotonic() + ANSWER
        frames: list[tuple[str, int]] = []
        while time.monotonic() < deadline and not frames:
            time.sleep(0.05)
            stack = os.pread(notes, 2**16, begin).decode(errors="replace")
            frames = [(file, int(line)) for file, line in STACK.findall(stack)]
        if any(file == __file__ for file, _ in frames):
            return tuple(reversed(frames))
    return ()
