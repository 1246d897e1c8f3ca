"""`python -m benchmarks`: measure, and print one table a topic."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from lepton_lab.store.folder import write_json

from .processes import cores
from .rows import Row, markdown

BESIDE = Path(__file__).parents[2] / "shared" / "data"  # real data beside a developer's checkout
TOPICS = (
    "launch",
    "sweep",
    "mlp",
    "bert",
    "stream",
    "shards",
    "augment",
    "parallel",
    "compression",
    "gpt",
    "logs",
    "own",
    "kernel",
    "memory",
)
TOPICS += ("pixels", "learner", "sounds")
LONG = ("compress", "records", "headlines", "labels", "applications", "gpu", "cluster")
"""Only where they are asked for: minutes, or what needs a GPU."""


def main() -> int:
    """Run the topics asked for; returns the exit code: 1 if one could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats: shows that it works, not how fast")
    parser.add_argument("--only", default=",".join(TOPICS), help="topics, with commas between: %(default)s")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    topics = asked.only.split(",")
    if unknown := set(topics) - {*TOPICS, *LONG}:
        parser.error(f"--only: unknown topic {sorted(unknown)}; there are {', '.join((*TOPICS, *LONG))}")
    machine = hardware()
    figures = "quick: one or two repeats" if asked.quick else "median, or mean over seeds (least to most)"
    print(f"{machine}\n{figures}\n", flush=True)
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["LEPTON_LAB_HOME"] = home
        if BESIDE.is_dir():  # as the tests do
            os.environ.setdefault("LEPTON_LAB_DATA", str(BESIDE))
        for topic in topics:
            module = importlib.import_module(f"benchmarks.{topic}")
            start = time.perf_counter()
            try:
                results[topic] = module.measure(asked.quick)
            except Exception:  # the other topics are still worth having
                print(f"## {module.TITLE}\n\ncould not be measured:\n{traceback.format_exc()}", flush=True)
                continue
            seconds = time.perf_counter() - start
            table = markdown(results[topic]) if results[topic] else "what it needs is not installed"
            print(f"## {module.TITLE}\n\n{table}\n\n{topic}: {seconds:.0f} s\n", flush=True)
    if asked.json:
        tables = {topic: [row.to_dict() for row in rows] for topic, rows in results.items()}
        write_json(asked.json, {"machine": machine, "quick": asked.quick, "topics": tables})
    return int(len(results) < len(topics))


def hardware() -> str:
    """What it ran on, in a line, and how busy that was."""
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{next(names, platform.machine())}, {len(cores())} cores, as many threads as cores unless said otherwise"
    return f"{machine}; torch {version('torch')}, Python {platform.python_version()}; load {load}"


if __name__ == "__main__":
    sys.exit(main())
