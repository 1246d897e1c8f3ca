"""The live chart in a real JupyterLab: event to pixel, cost of a draw, frames lost, CPU of the kernel.

    python benchmarks/chart.py [--points 1000 100000 1000000] [--hz 10] [--seconds 10] [--json]

A run folder is filled with events, a notebook shows it, and more events are then written through the ranks' own log
(with its 50 ms flush). Times are wall clock from the event to the frame after the one that drew it.
"""

import argparse
import json
import math
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from playwright.sync_api import sync_playwright

from lepton_lab.spec import Spec
from lepton_lab.store.folder import RunFolder
from tests.browser.jupyter import QUIET, Jupyter, Notebook, chromium_path, wait_for, write_notebook

CELLS = """import lepton_lab as lab
from lepton_widgets import Live
live = Live(lab.attach({id!r}))
live"""
# When each step was on the screen, what each draw cost, and how far frames were apart.
WATCH = """() => {
  const view = document.querySelector(".ll-live"), seen = (window.seen = { steps: [], costs: [], frames: [] });
  let before = performance.now(), last = null;
  const frame = (now) => {
    seen.frames.push(now - before);
    before = now;
    const { last: step, cost } = view.dataset;
    if (step !== last) {
      seen.steps.push([Number(step), performance.timeOrigin + performance.now()]);
      seen.costs.push(Number(cost));
      last = step;
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


def fill(folder: RunFolder, points: int) -> None:
    """Write the events of that many training steps, as a rank does."""
    noise = random.Random(0)
    started = time.time() - points / 100
    with (folder.path / "events" / "rank0.jsonl").open("w") as file:
        for step in range(1, points + 1):
            loss = 2.3 * math.exp(-4 * step / points) + 0.1 + 0.05 * noise.random()
            file.write(
                f'{{"kind": "train", "t": {started + step / 100:.3f}, "rank": 0, "step": {step}, "epoch": 0, '
                f'"loss": {loss:.6f}, "accuracy": {1 - loss / 2.6:.6f}, "samples": 64, "lr": 0.001}}\n'
            )


def stream(folder: RunFolder, step: int, hz: float, seconds: float) -> dict[int, float]:
    """Append `hz` steps a second through a rank's log; returns when each event happened, unix seconds."""
    import torch

    from lepton_lab.store.log import Log

    log, happened = Log(folder.path / "events" / "rank0.jsonl", 0), {}
    log.know(dict, device="cpu", threads=1)
    log.start()
    try:
        began = time.time()
        while time.time() - began < seconds:
            step += 1
            happened[step] = time.time()
            log.train(step, 0, torch.tensor(0.5 + 0.1 * random.random()), torch.tensor(50), 64, 1e-3)
            time.sleep(max(0.0, began + len(happened) / hz - time.time()))
    finally:
        log.close()
    return happened


def measure(browser, jupyter: Jupyter, points: int, hz: float, seconds: float) -> dict[str, object]:
    """One row of the table."""
    os.environ["LEPTON_LAB_HOME"] = str(jupyter.home)
    folder = RunFolder.create(Spec(epochs=1, name=f"{points:,} points"))
    lock = folder.lock()
    fill(folder, points)
    folder.set_state("running", steps=2 * points)
    name = f"chart-{points}-{hz:g}.ipynb"
    write_notebook(jupyter.work / name, CELLS.format(id=folder.id))
    context = browser.new_context(viewport={"width": 1280, "height": 1200})
    try:
        book = Notebook(context.new_page(), jupyter, name)
        began = time.time()
        book.run_all()
        wait_for(lambda: book.points() >= 2 * points, "the curve did not come", 180)
        shown = time.time() - began
        kernel = kernel_process(jupyter)
        time.sleep(4)  # the catch-up messages of a fresh view are not what is measured
        book.page.evaluate(WATCH)
        time.sleep(seconds)
        idle = book.page.evaluate("() => window.seen.frames.splice(0)")
        before = cpu(kernel)
        happened = stream(folder, points, hz, seconds)
        busy = cpu(kernel) - before
        time.sleep(1)
        seen = book.page.evaluate("() => window.seen")
    finally:
        context.close()
        folder.set_state("done")
        os.close(lock)
        for session in jupyter.ask("sessions") or []:
            jupyter.ask(f"sessions/{session['id']}", "DELETE")
    latency = latencies(happened, seen["steps"])
    return {
        "points": points,
        "hz": hz,
        "first_shown_s": round(shown, 2),
        "event_to_pixel_ms": spread([1000 * value for value in latency]),
        "draw_ms": spread(seen["costs"][1:]),
        "frames_over_33_ms": sum(gap > 33.4 for gap in seen["frames"]),
        "frames_over_33_ms_idle": sum(gap > 33.4 for gap in idle),
        "frames": len(seen["frames"]),
        "kernel_cpu_percent": round(100 * busy / seconds, 2),
    }


def latencies(happened: dict[int, float], steps: list[list[float]]) -> list[float]:
    """Seconds from each event to the first frame that shows it."""
    found, at = [], 0
    for step, t in happened.items():
        while at < len(steps) and steps[at][0] < step:
            at += 1
        if at < len(steps):
            found.append(steps[at][1] / 1000 - t)
    return found


def spread(values: list[float]) -> list[float]:
    """Median and 95th percentile."""
    cut = statistics.quantiles(values, n=20) if len(values) > 1 else [math.nan] * 19
    return [round(statistics.median(values), 2), round(cut[18], 2)]


def kernel_process(jupyter: Jupyter) -> psutil.Process:
    return next(p for p in jupyter.processes() if "ipykernel_launcher" in " ".join(p.cmdline()))


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def table(rows: list[dict[str, object]]) -> str:
    head = [name.replace("_", " ") for name in rows[0]]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [" / ".join(map(str, v)) if isinstance(v, list) else f"{v:,}" for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "Pairs are median / 95th percentile. " + machine()])


def machine() -> str:
    return (
        f"{psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; headless Chromium, software rendering."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--hz", type=float, nargs="+", default=[10.0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lepton-lab-bench-"))
    jupyter = Jupyter(folder)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)
            rows = [measure(browser, jupyter, n, hz, options.seconds) for n in options.points for hz in options.hz]
            browser.close()
    finally:
        jupyter.close()
        shutil.rmtree(folder)
    print(json.dumps(rows, indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
