"""The live chart in a real browser: `chart.py` as rows."""

from __future__ import annotations

import json
import subprocess
import sys

from .processes import ROOT, environment, installed
from .rows import Row

TITLE = "Live chart in JupyterLab in a headless Chromium, 10 events/s"


def measure(quick: bool) -> list[Row]:
    """Rows for each number of points on the chart; none where Playwright is not installed."""
    if not installed("playwright"):
        return []
    points = ["1000", "100000"] if quick else ["1000", "100000", "1000000"]
    options = ["--json", "--seconds", "5" if quick else "20", "--points", *points]
    command = [sys.executable, "-m", "benchmarks.chart", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    rows = []
    for figures in json.loads(done.stdout):
        n = f"{figures['points']:,} points: "
        latency, draw = figures["event_to_pixel_ms"], figures["draw_ms"]
        lost, idle = figures["frames_over_33_ms"], figures["frames_over_33_ms_idle"]
        rows += [
            Row(f"{n}event to pixel, median (95 of 100 within {latency[1]:.0f})", latency[:1], "ms", at_most=150),
            Row(f"{n}draw, median (95 of 100 within {draw[1]:.1f})", draw[:1], "ms"),
            Row(f"{n}dropped of {figures['frames']} (with no events: {idle})", [lost], "frames", at_most=idle),
            Row(f"{n}CPU of the kernel", [figures["kernel_cpu_percent"]], "%", at_most=5),
        ]
    return rows
