"""What holds the figures that a user's code logs, until the thread of the rank's log writes them."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import media
from .figures import FOLDER

if TYPE_CHECKING:
    from .log import Log

Reduce: TypeAlias = Literal["mean", "sum", "max", "rank0"]
REDUCTIONS = ("mean", "sum", "max", "rank0")
NUMBERS = 64 * 2**20  # bytes of rows of numbers in a run, over all ranks
FILES = 256 * 2**20  # bytes of media in a run, over all ranks
NAMES = 200  # different ones of numbers
WAITING = 100_000  # numbers that wait to be written
HELD = 32 * 2**20  # bytes of media that wait to be written
MANY = 2**20  # numbers that a histogram is made of; of more, every k-th

Place: TypeAlias = tuple[int, str]
"""Optimizer steps done with the one at hand, and the split: "train", or what is being evaluated."""


class Recorder:
    """
    What one rank's code logs: an append in the hot path; files and rows from the thread of the rank's log.

    Parameters
    ----------
    folder
        The run's.
    log
        The rank's, which asks for `rows` whenever it writes.
    world
        Ranks of the run, between which its bounds are shared.
    pictured
        Whether media of this rank are kept.
    spent
        Bytes of rows that the rank wrote in earlier lives of the run.
    """

    def __init__(self, folder: Path, log: Log, world: int, pictured: bool, spent: int = 0) -> None:
        self.place: Place = (0, "train")
        self.reductions: dict[str, Reduce] = {}
        self.dropped = 0
        self._folder, self._log, self._pictured = folder / FOLDER, log, pictured
        self.spent, self._numbers_left = spent, NUMBERS // world - spent
        self._files_left = FILES // world
        self._held = 0
        self._numbers: list[tuple[Place, str, Any]] = []
        self._media: list[tuple[float, Place, str, str, Any, dict[str, Any]]] = []
        self._open: dict[
            Place, dict[str, list[float]]
        ] = {}  # of steps that are not over: name -> sum, count, most, last
        self._files = 0
        self._told = False

    def known(self, name: str, reduce: Reduce) -> Reduce:
        """How a name is reduced: as it was first; beyond as many names as a run may have, it is not taken up."""
        if name not in self.reductions and len(self.reductions) < NAMES:
            self.reductions[name] = reduce
        return self.reductions.get(name, reduce)

    def number(self, name: str, value: Any) -> None:
        """Note a number; never waits for a device, and never raises. What is computed again was noted before."""
        if recomputing():
            return
        if isinstance(value, Tensor):
            value = _plain(value)
        if value is None:
            return
        if self._numbers_left <= 0 or len(self._numbers) > WAITING or name not in self.reductions:
            self.dropped += 1
            return
        try:
            if isinstance(value, Tensor):
                # A parameter's value now, before the next update.
                value = value.item() if value.is_cpu else value.detach().reshape(()).clone()
            elif isinstance(value, np.ndarray):
                value = value.item()
        except RuntimeError:  # within torch.func.vmap no tensor can be read
            self.dropped += 1
            return
        self._numbers.append((self.place, name, value))

    def medium(self, kind: str, name: str, value: Any, **options: Any) -> None:
        """Note an image, a text, a sound or a histogram, as `number` does; never waits for a device."""
        if recomputing() or (value := _taken(value, kind == "histogram")) is None or not self._pictured:
            return
        size = _size(kind, value)
        if size and (self._files_left <= 0 or self._held + size > HELD):
            self.dropped += 1
            return
        self._held += size
        value = value.copy() if isinstance(value, np.ndarray) else value.clone() if isinstance(value, Tensor) else value
        self._media.append((time.time(), self.place, kind, name, value, options))

    def resume(self, step: int) -> None:
        """Forget the media after a step that the run goes on from, which it makes anew."""
        for path in self._folder.glob(f"*-{self._log.rank}-*"):
            if int(path.name.split("-")[0]) > step:
                path.unlink(missing_ok=True)
            else:
                self._files_left -= 0 if path.name.endswith(media.MEDIA[media.SAMPLES].ending) else path.stat().st_size
                self._files += 1
        self.place = (step, "train")

    def rows(self, all_of_them: bool = False) -> list[str]:
        """Rows of the steps that are over, or of all, as JSON; never raises."""
        now = self.place[0]  # first: what belongs to a step before it is in the list by now
        count = len(self._numbers)  # the loop may append at any moment, so the list stays the same one
        taken = self._numbers[:count]
        del self._numbers[:count]
        try:
            for (place, name, _), number in zip(taken, _read([value for *_, value in taken]), strict=True):
                self._add(self._open.setdefault(place, {}), name, number)
        except Exception as error:  # a device that fails will stop the loop by itself
            self.dropped += len(taken)
            self._tell(f"{type(error).__name__}: {error}")
        over = [place for place in self._open if all_of_them or place[0] < now]
        rows = [self._row(place, self._open.pop(place)) for place in sorted(over)]
        size = sum(map(len, rows))
        self.spent += size
        self._numbers_left -= size
        return rows

    def save(self) -> None:
        """Write the media that wait, and say what was dropped; called by the log's thread, and never raises."""
        for _ in range(len(self._media)):
            noted = self._media.pop(0)
            self._held -= _size(noted[2], noted[4])
            try:
                self._write(*noted)
            except Exception as error:
                self.dropped += 1
                self._tell(f"{type(error).__name__}: {error}")
        if self.dropped:
            self._tell(
                f"a run keeps {NUMBERS // 2**20} MiB of numbers under {NAMES} names and {FILES // 2**20} MiB of media"
            )

    @property
    def facts(self) -> dict[str, int]:
        """For each system event: bytes of rows written, and figures dropped."""
        return {name: value for name, value in (("logged", self.spent), ("dropped", self.dropped)) if value}

    def _add(self, numbers: dict[str, list[float]], name: str, value: float) -> None:
        if (known := numbers.get(name)) is None:
            numbers[name] = [value, 1, value, value]
        else:
            known[:] = known[0] + value, known[1] + 1, max(known[2], value), value

    def _row(self, place: Place, numbers: dict[str, list[float]]) -> str:
        """A row as JSON, put together here: json takes twice as long, which counts where a step takes 0.3 ms."""
        step, split = place
        row = (
            f'{{"kind": "logged", "t": {time.time():.6f}, "rank": {self._log.rank}, "step": {step}, "split": "{split}"'
        )
        reduced = {}
        for name, (total, count, most, last) in numbers.items():
            if (how := self.reductions[name]) != "mean":
                reduced[name] = how
            value = total / count if how == "mean" else total if how == "sum" else most if how == "max" else last
            figure = repr(float(f"{value:.7g}")) if math.isfinite(value) else "null"
            row += f", {_quoted(name)}: {figure}"
        return row + (f', "reduce": {json.dumps(reduced)}}}' if reduced else "}")

    def _write(self, t: float, place: Place, kind: str, name: str, value: Any, options: dict[str, Any]) -> None:
        """Write one file, then the row that names it."""
        written = media.MEDIA[kind]
        if isinstance(value, Tensor):
            value = (value if value.dtype in (torch.uint8, torch.int16) else value.float()).cpu().numpy()
        body, facts = written.write(value, **options)
        size = _size(kind, body)
        if size > self._files_left:
            self.dropped += 1
            return
        self._folder.mkdir(exist_ok=True)
        self._files += 1
        path = self._folder / f"{place[0]:08d}-{self._log.rank}-{self._files:06d}{written.ending}"
        path.write_bytes(body)
        self._files_left -= size
        row = {"step": place[0], "split": place[1], "name": name, "media": kind, "file": path.name, **facts}
        self._log.write("media", **row)

    def _tell(self, why: str) -> None:
        """Say once, on the curve, that something was dropped."""
        if not self._told:
            self._told = True
            text = f"figures of lab.log are dropped from here on, and counted: {why}"
            with contextlib.suppress(OSError):
                self._log.write("note", step=self.place[0], text=text)


current: Recorder | None = None
"""Of this process, while it trains."""


@contextlib.contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """What is logged goes to a recorder meanwhile."""
    global current
    before, current = current, recorder
    try:
        yield
    finally:
        current = before


def _forget() -> None:
    global current
    current = None


os.register_at_fork(after_in_child=_forget)  # a process that loads data writes no events


@functools.cache
def _quoted(name: str) -> str:
    return json.dumps(name)


def recomputing() -> bool:
    """Whether a part of the forward pass is computed again within the backward one, by activation checkpointing."""
    # A backward pass goes on in this thread; and gradients are on, which they are not in hooks of gradients.
    return torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()


def spread(value: Any) -> bool:
    """Whether a value is one of all ranks, of which each has a part."""
    return hasattr(value, "placements") and not all(part.is_replicate() for part in value.placements)


def _plain(value: Tensor) -> Tensor | None:
    """A tensor that can be read by one thread of one rank; None of one that has no values."""
    kind = type(value)
    if kind is Tensor or kind is torch.nn.Parameter:
        return None if value.is_meta else value
    if hasattr(value, "placements"):  # whole on each rank: see `spread`
        return value.detach().to_local()  # type: ignore[attr-defined]
    from torch._subclasses.fake_tensor import FakeTensor

    return None if isinstance(value, FakeTensor) or value.is_meta else value.as_subclass(Tensor)


def _taken(value: Any, thinned: bool) -> Any:
    """A medium's value as it is held until it is written; of a long one that is `thinned` every k-th number."""
    if isinstance(value, str):
        return value[: media.TEXT + 1]
    if isinstance(value, Tensor):
        value = _plain(value.detach())
    if value is not None and thinned and (count := math.prod(value.shape)) > MANY:
        value = value.reshape(-1)[:: -(-count // MANY)]
    return value


def _size(kind: str, value: Any) -> int:
    """Bytes, or letters, that count against what a run keeps of a user's media; of the samples that it shows none."""
    if kind == media.SAMPLES:
        return 0
    return value.nbytes if isinstance(value, (Tensor, np.ndarray)) else len(value)


def _read(values: list[Any]) -> list[float]:
    """Numbers, and tensors of one number each, as numbers: one transfer for all tensors of a kind."""
    kinds: dict[Any, list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            kinds.setdefault((value.device, value.dtype), []).append(i)
    for places in kinds.values():
        for i, number in zip(places, torch.stack([values[i] for i in places]).tolist(), strict=True):
            values[i] = number
    return [float(value) for value in values]
