"""What the event log costs the loop that writes to it, and whether all of it arrives."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from .rows import Row

TITLE = "Event log of a rank: loss and accuracy of each step"
SCALARS = 2  # loss and accuracy; step, epoch, samples, lr and time come with them
BATCH = 100


def measure(quick: bool) -> list[Row]:
    """Rows of nanoseconds a scalar and of events/s that were all found again in the file."""
    repeats, events = (2, 20_000) if quick else (7, 100_000)
    paced, full = ([one(events, pace) for _ in range(repeats)] for pace in (0.0005, 0.0))
    return [
        Row("the loop pays, at 2,000 steps/s", [figures[0] for figures in paced], "ns a scalar", at_most=1000),
        Row("CPU of loop and writing thread together, the same", [figures[1] for figures in paced], "ns a scalar"),
        Row("written as fast as it can, every event found again", [figures[2] for figures in full], "events/s"),
    ]


def one(events: int, pace: float) -> tuple[float, float, float]:
    """Write train events with `pace` seconds between; ns a scalar in the loop, and in all, and events/s in the file."""
    import torch

    from lepton_lab.store.log import Log

    loss, correct = torch.tensor(0.5), torch.tensor(50)
    events = min(events, round(2 / pace)) if pace else events
    spent = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rank0.jsonl")
        log = Log(path, 0)
        log.know(dict, threads=1, device="cpu")
        log.start()
        start, cpu = time.perf_counter(), time.process_time()
        for first in range(1, events + 1, BATCH):
            before = time.perf_counter_ns()
            for step in range(first, first + BATCH):
                log.train(step, 0, loss, correct, 64, 1e-3)
            spent += time.perf_counter_ns() - before
            time.sleep(pace * BATCH)
        log.close()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        steps = [row["step"] for row in map(json.loads, path.read_text().splitlines()) if row["kind"] == "train"]
    if steps != list(range(1, events + 1)):
        raise RuntimeError(f"of {events} events {len(steps)} are in the file")
    return spent / events / SCALARS, cpu * 1e9 / events / SCALARS, events / seconds
