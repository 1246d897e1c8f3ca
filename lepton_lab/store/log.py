"""The event log that a rank writes: an append in the hot path, JSON lines from a background thread."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import Memory
from ..metrics import METRICS, numbers, steps
from .pace import Pace

if TYPE_CHECKING:
    from torch import Tensor

    from .recorder import Recorder

FLUSH = 0.05  # seconds between flushes: what a kill -9 can lose, and half of what a view lags behind
SYSTEM = 1.0  # seconds between system events


class Journal:
    """
    Append-only events of one writer; each is in the file when `write` returns.

    All that a supervisor needs, and small, since a hundred of them may wait.

    Parameters
    ----------
    path
        File that events are appended to.
    rank
        Rank written into every event, -1 for the supervisor.
    """

    def __init__(self, path: Path, rank: int) -> None:
        self.rank = rank
        self._file = path.open("a+b", buffering=0)
        # Torn by a crash of an earlier life: the next line must not be read as part of it.
        if (size := self._file.tell()) and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
            self._file.write(b"\n")
        self._unwritten = bytearray()  # what a full disk did not take; the next write goes on from there

    def write(self, kind: str, **values: Any) -> None:
        """Write an event now."""
        self._write([json.dumps({"kind": kind, "t": time.time(), "rank": self.rank, **values})])

    def close(self) -> None:
        """Write nothing more."""
        self._file.close()

    def _write(self, lines: list[str]) -> None:
        # One write call: O_APPEND keeps lines whole even if two processes ever shared the file.
        self._unwritten += ("\n".join(lines) + "\n").encode()
        while self._unwritten:
            del self._unwritten[: self._file.write(self._unwritten)]


class Log(Journal):
    """
    The journal of one rank, with a hot path and a thread that flushes it.

    `train` costs a list append, well under a microsecond a scalar; tensors in it are read by the flushing thread, so
    that the loop never waits for the device.
    """

    def __init__(self, path: Path, rank: int) -> None:
        super().__init__(path, rank)
        self.step = 0
        self.read: Callable[[int, float, list[float], int], object] = lambda step, loss, counts, samples: None
        """Is given what each step noted, as soon as it is read from the device; called by the flushing thread."""
        self.beside: list[str] = []  # names of what each step counts after what metrics do
        self.waits = ""  # what the rank was seen to wait in, if it stands still
        self.own: Recorder | None = None
        """What holds the figures that a user's code logs."""
        self.away = False  # whether the rank does steps that another log tells of, so that it does not stand still
        self._silent: set[str] = set()  # what raised when it was asked, and is asked no more
        self._pending: list[tuple[Any, ...]] = []
        self._last: dict[str, Any] = {}  # latest figures, repeated in each system event for readers of the file's end
        self._facts: dict[str, Any] = {}
        self._report: Callable[[], dict[str, Any]] = dict
        self._pace, self._memory = Pace(), Memory()
        self._system_at = time.perf_counter()
        self._seen = 0  # step at the last system event
        self._stepped = time.time()  # when the last step was done
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, waiting: Callable[[], str] = str) -> None:
        """
        Start the flushing thread.

        Parameters
        ----------
        waiting
            Tells what the rank waits in, or where it stands; asked when there was no step since the last system event.
        """
        self._waiting = waiting
        self._thread = threading.Thread(target=self._run, name="lepton-lab-events", daemon=True)
        self._thread.start()

    def know(self, report: Callable[[], dict[str, Any]], **facts: Any) -> None:
        """From now on write the strategy's own figures, and `facts` (threads, device), into each system event."""
        self._report, self._facts = report, facts

    def train(self, step: int, epoch: int, loss: Tensor, counts: Tensor | None, samples: int, lr: float) -> None:
        """Note one optimizer step: the mean `loss` over this rank's `samples`, and what was counted of them."""
        self._pending.append((time.time(), step, epoch, loss, counts, samples, lr))

    def rest(self, seconds: float | None) -> None:
        """Note that something else than training took so many seconds since the last step; None: that it begins."""
        self.flush()
        with self._lock:
            self._pace.rest(seconds)

    def write(self, kind: str, **values: Any) -> None:
        """Write an event now, after all that came before it."""
        self.flush()
        with self._lock:
            super().write(kind, **values)

    def evaluation(self, split: str, step: int, epoch: int, **values: Any) -> None:
        """Write an eval event of a split: "train", "val" or "test"."""
        values = _finite(values)
        self._last |= {f"{split}_{name}": figure for name, figure in numbers(values).items()}
        self.write("eval", step=step, epoch=epoch, split=split, **values)

    def flush(self, all_of_them: bool = False) -> None:
        """Write what `train` noted, and a user's figures of the steps that are over, or `all_of_them`."""
        with self._lock:
            n = len(self._pending)  # the loop may append at any moment, so the list stays the same one
            pending = self._pending[:n]
            del self._pending[:n]
            # First, so that who reads of a step has all the figures of the steps before it.
            lines = self.own.rows(all_of_them) if self.own else []
            if pending:
                lines += self._lines(pending)
            if lines:
                self._write(lines)

    def close(self) -> None:
        """Flush, write a last system event, and end the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self.flush(all_of_them=True)
            if self.own:
                self.own.save()
            self._system()
        super().close()

    def _lines(self, pending: list[tuple[Any, ...]]) -> list[str]:
        import torch

        minimised, *names = [*steps(), *self.beside]
        metrics = {name: METRICS.get(name, METRICS[minimised]) for name in (minimised, *names)}
        formats = [f'"{name}": {{:.{metric.digits}g}}, ' for name, metric in metrics.items()]
        # One transfer for all, off the loop's thread.
        losses = torch.stack([row[3] for row in pending]).flatten().tolist()
        counts: list[list[float]] = [[] for _ in pending]
        if counted := [place for place, row in enumerate(pending) if row[4] is not None]:  # not of every step
            tallies = torch.stack([pending[place][4] for place in counted]).reshape(len(counted), -1).tolist()
            for place, sums in zip(counted, tallies, strict=True):
                counts[place] = sums
        lines = []
        for (t, step, epoch, _, _, samples, lr), loss, sums in zip(pending, losses, counts, strict=True):
            values = [loss, *(value / max(samples, 1) for value in sums)]
            figures = [form.format(value) for form, value in zip(formats, values, strict=False) if math.isfinite(value)]
            if not math.isfinite(loss):
                figures.insert(0, f'"{minimised}": null, ')
            lines.append(
                f'{{"kind": "train", "t": {t:.6f}, "rank": {self.rank}, "step": {step}, "epoch": {epoch}, '
                f'{"".join(figures)}"samples": {samples}, "lr": {lr:.7g}}}'
            )
            self.read(step, loss, sums, samples)
            self._pace.step(t, samples)
        self.step, self._stepped = step, t
        finite = {name: value for name, value in zip(names, values[1:], strict=False) if math.isfinite(value)}
        self._last |= _finite({minimised: loss}) | finite | {"epoch": epoch}
        return lines

    def report(self) -> dict[str, Any]:
        """The strategy's own figures, as JSON; {} from the time on when it could not tell them."""

        def figures() -> dict[str, Any]:
            json.dumps(values := self._report())
            return _finite(values)

        return self._asked("report", figures, {})

    def _asked(self, name: str, ask: Callable[[], Any], default: Any) -> Any:
        """What a function of the strategy tells; one that raises is noted once, and never hurts the run."""
        if name not in self._silent:
            try:
                return ask()
            except Exception as error:
                self._silent.add(name)
                text = f"{name}() raised {type(error).__name__}: {error}; it is asked no more"
                self.write("note", step=self.step, text=text)
        return default

    def _run(self) -> None:
        while not self._closing.wait(FLUSH):
            with contextlib.suppress(OSError):  # of a full disk: what is unwritten stays, and the loop will hear of it
                self.flush()
                if self.own:
                    self.own.save()
                if time.perf_counter() - self._system_at >= SYSTEM:
                    self._system()

    def _system(self) -> None:
        self._system_at = time.perf_counter()
        still = self.step == self._seen and not (self.away or self._closing.is_set())
        self._seen = self.step
        self.waits = self._asked("waiting", self._waiting, "") if still else ""
        with self._lock:
            rates = self._pace.rates
        row = {
            "kind": "system",
            "t": time.time(),
            "rank": self.rank,
            "step": self.step,
            "memory": self._memory(),
            **{name: round(rate, 3) for name, rate in rates.items()},
            **self._facts,
            **self._last,
            **(self.own.facts if self.own else {}),
        }
        row |= {name: value for name, value in self.report().items() if name not in row}
        if still:
            row["since"] = round(self._stepped, 3)
        if self.waits:
            row["waits"] = self.waits
        if self._facts.get("device", "cpu").startswith("cuda"):
            import torch

            row["gpu_memory"] = torch.cuda.max_memory_allocated()
        with self._lock:
            self._write([json.dumps(row)])


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Values with None in place of NaN and infinity, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
