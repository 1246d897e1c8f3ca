"""How soon `lab.launch` returns, and how soon the first optimizer step is done; other launchers beside it."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from .processes import installed, python
from .rows import Row

TITLE = "Launch: CNN on digits, ddp over two processes"


def measure(quick: bool) -> list[Row]:
    """Rows of seconds; the spread shows the first launch of a fresh process, which imports what it needs."""
    repeats = 2 if quick else 7
    warm, cold = (python("launch", standby, repeats) for standby in ("standby", "none"))
    notebook = [python("first_step", "notebook") for _ in range(repeats)] if installed("accelerate") else []
    torchrun = [python("first_step", "torchrun") for _ in range(repeats)]
    ms = [[1000 * value for value in times["returns"]] for times in (warm, cold)]
    rows = [
        Row("lab.launch returns, with a standby", ms[0], "ms", at_most=50),
        Row("lab.launch returns, without", ms[1], "ms", at_most=50),
        Row("launch to first optimizer step, with a standby", warm["steps"], "s", at_most=0.15),
        Row("launch to first optimizer step, without", cold["steps"], "s", at_most=4),
    ]
    for name, times in (("with a standby", warm["steps"]), ("without", cold["steps"])):
        if notebook:
            rows.append(Row(f"{name}, beside Accelerate's notebook_launcher", times, "s", notebook))
        rows.append(Row(f"{name}, beside torchrun", times, "s", torchrun))
    return rows


def main(standby: str, repeats: str) -> dict[str, Any]:
    """Launch as often, one after the other, and look when each returned and when its first step was done."""
    os.environ["LEPTON_LAB_STANDBY"] = "inf" if standby == "standby" else "0"
    import lepton_lab as lab
    from lepton_lab.launchers.local import client
    from lepton_lab.store.finding import find

    spec = lab.Spec(dataset="digits", model="cnn", strategy="ddp", world=2, epochs=1)
    client.warm()
    if standby == "standby":
        time.sleep(8)  # it imports torch meanwhile, as when a notebook has shown its form
    returns, steps = [], []
    for _ in range(int(repeats)):
        start, tick = time.time(), time.perf_counter()
        run = lab.launch(spec)
        returns.append(time.perf_counter() - tick)
        run.wait()
        while find(run.id).alive:
            time.sleep(0.05)
        steps.append(min(row["t"] for row in run.rows("train")) - start)
        time.sleep(0.5)
    client.close()
    return {"returns": returns, "steps": steps}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
