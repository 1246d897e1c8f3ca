"""A sweep as one types it: launches in a loop, what they cost while they wait, and how soon they are done."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from .processes import python
from .rows import Row

TITLE = "Sweep: launches in a loop, MLP on digits, 2 epochs each"


def measure(quick: bool) -> list[Row]:
    """Rows of seconds, megabytes and runs a second."""
    count, repeats = (20, 1) if quick else (100, 3)
    found = [python("sweep", count) for _ in range(repeats)]
    values = {name: [figures[name] for figures in found] for name in found[0]}
    return [
        Row(f"{count} launches return, together", values["seconds"], "s", at_most=1),
        Row("memory (PSS) that they add while all wait", values["megabytes"], "MB", at_most=300),
        Row("cores' time while they wait", values["percent"], "%"),
        Row("runs that end in a second, once they may", values["rate"], "/s", at_least=6),
    ]


def main(count: str) -> dict[str, Any]:
    """Launch as many while others hold all slots, look at what waits, then let them go and wait for the last."""
    import psutil

    import lepton_lab as lab
    from lepton_lab.host import memory
    from lepton_lab.launchers import devices
    from lepton_lab.launchers.local import client
    from lepton_lab.launchers.local.leases import Queue

    def taken() -> tuple[float, float]:
        """Bytes and seconds of CPU of all that we started."""
        family = psutil.Process().children(recursive=True)
        return sum(memory(child.pid) for child in family), sum(sum(child.cpu_times()[:2]) for child in family)

    client.warm()
    lab.launch(lab.Spec(model="mlp", epochs=1)).wait(60)
    time.sleep(1)
    slots = devices.slots("cpu")
    held = Queue("cpu")
    while held.acquire(slots, len(slots)) is None:
        time.sleep(0.05)
    before, _ = taken()
    start = time.perf_counter()
    runs = [lab.launch(lab.Spec(model="mlp", epochs=2, lr=0.1 / (i + 1))) for i in range(int(count))]
    seconds = time.perf_counter() - start
    while any(not run.facts.get("reason") for run in runs):
        time.sleep(0.1)
    time.sleep(1)
    (after, used), tick = taken(), time.perf_counter()
    time.sleep(3)
    percent = 100 * (taken()[1] - used) / (time.perf_counter() - tick)
    start = time.perf_counter()
    held.release()
    assert [run.wait(600) for run in runs] == ["done"] * len(runs)
    rate = len(runs) / (time.perf_counter() - start)
    client.close()
    return {"seconds": seconds, "megabytes": (after - before) / 1e6, "percent": percent, "rate": rate}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
