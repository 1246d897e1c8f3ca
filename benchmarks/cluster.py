"""What each launcher costs a run of two ranks on this machine: to start, to notice a death, to go on, to end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from statistics import median
from typing import Any

from .processes import installed, python, until
from .rows import Row

TITLE = "Launchers: CNN on digits, ddp over two processes, beside this machine's own"
PLACES = ("torchrun", "apart", "slurm", "ray")
PEERS = {"torchrun": "torch", "ray_train": "tensorboardX", "lightning": "lightning"}  # and what each needs
FIGURES = {
    "start": "launch to first step",
    "step": "a step",
    "notice": "kill -9 of a rank until the run's state tells it",
    "recover": "kill -9 of a rank to the next step (of a local run after its resume)",
    "stop": "stop to the run's end",
    "whole": "launch to the end of a run of one epoch",
}


def measure(quick: bool) -> list[Row]:
    """Rows of seconds, a launcher after the other; each has a warm process, as after the first launch of a notebook."""
    repeats = 1 if quick else 5
    here = python("cluster", "local", repeats)
    rows = []
    for place in PLACES:
        there = python("cluster", place, repeats)
        rows += [Row(f"{place}: {text}", there[name], "s", here[name]) for name, text in FIGURES.items()]
        if lost := there.get("lost"):
            rows.append(Row(f"{place}: kill -9 of a node to the next step", lost, "s"))
    for peer, library in PEERS.items():
        if installed(library):
            theirs = [python("cluster_peers", peer) for _ in range(repeats)]
            for name in theirs[0]:
                text = f"this machine: {FIGURES[name]}, beside {peer}"
                rows.append(Row(text, here[name], "s", [times[name] for times in theirs]))
    return rows


def main(place: str, repeats: str) -> dict[str, list[float]]:
    """Lists of seconds, by name of FIGURES; of torchrun's nodes `lost`, too. Those `apart` share a store alone."""
    import lepton_lab as lab
    from lepton_lab.launchers.local import client

    if place == "apart":
        home = os.environ["XDG_DATA_HOME"] = os.environ["LEPTON_LAB_HOME"]
        os.environ["LEPTON_LAB_HOME"] = f"file://{home}/store"
    places: dict[str, Any] = {
        **dict.fromkeys(("torchrun", "apart"), lambda: lab.Torchrun(nodes="1:2", hosts=["localhost"] * 2)),
        "slurm": lambda: lab.Slurm(cluster="local", nodes=2),
        "ray": lab.Ray,
    }
    on = places[place]() if place in places else place
    client.warm()
    time.sleep(8)  # it imports torch meanwhile
    each = [_course(on, place) for _ in range(int(repeats))]
    client.close()
    return {name: [times[name] for times in each] for name in each[0]}


def _course(on: Any, place: str) -> dict[str, float]:
    import lepton_lab as lab

    spec = lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=1)
    endless = spec.replace(epochs=100_000, eval_every=0, checkpoint_every=20)
    times, begin = {}, time.time()
    run = lab.launch(spec, on=on)
    run.wait()
    times["whole"] = time.time() - begin
    until(lambda: not run.store.alive)
    begin = time.time()
    run = lab.launch(endless, on=on)
    times["start"] = _first(run, begin) - begin
    until(lambda: run.store.story().step > 100)
    ticks = [row["t"] for row in run.rows("train") if row["rank"] == 0][20:]
    times["step"] = median(late - early for early, late in itertools.pairwise(ticks))
    times["notice"], times["recover"] = _killed(run, _rank(run))
    if place in ("torchrun", "apart"):
        until(lambda: run.facts.get("world") == 2 and run.state == "running")
        times["lost"] = _killed(run, run.facts["nodes"][1]["pid"])[1]
    begin = time.time()
    run.stop()
    run.wait()
    times["stop"] = time.time() - begin
    until(lambda: not run.store.alive)
    return times


def _killed(run: Any, pid: int) -> tuple[float, float]:
    """Kill a process; seconds until the run's state or a note of it tells that, and to the first step after that."""
    attempt, begin = run.facts["attempt"], time.time()
    os.kill(pid, signal.SIGKILL)
    until(lambda: run.state == "failed" or run.facts["attempt"] != attempt)
    noticed = time.time()
    if run.state == "failed":
        run.resume()
    notes = [row["t"] for row in run.rows("note") if row["t"] > begin]
    return min([noticed, *notes]) - begin, _first(run, noticed) - begin


def _rank(run: Any) -> int:
    """The process of rank 1, found by its open log."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(file.path.endswith(f"/{run.id}/logs/rank1.log") for file in process.open_files()):
                return int(process.pid)
    raise RuntimeError("rank 1 is gone")


def _first(run: Any, since: float) -> float:
    """When the first step after a time was done."""
    return float(until(lambda: min((row["t"] for row in run.rows("train") if row["t"] > since), default=0)))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
