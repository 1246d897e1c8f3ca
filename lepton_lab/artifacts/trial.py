"""
A trial of an artifact by itself: `python -m lepton_lab.artifacts.trial FILE CALLS BATCH THREADS` prints JSON.

Run in a fresh process, so that nothing which made the file is there.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

CLOSE = 0.02  # of the largest score: kernels of other processors round otherwise, and int8 may then take another step


def trial(path: Path, calls: int, batch: int, threads: int) -> dict[str, Any]:
    """
    Load a file, hold it to the scores that its manifest tells, and time calls.

    Gives load (seconds), same (whether scores are those of the manifest), difference (the largest), median and p95
    (seconds a call), and per_second (samples).
    """
    import numpy as np

    from .loading import load
    from .outputs import first

    begin = time.perf_counter()
    artifact = load(path, threads=threads)
    loading = time.perf_counter() - begin
    if artifact.runtime == "torch":
        import torch

        torch.set_num_threads(threads)
    expected = np.asarray(artifact.manifest["check"]["scores"], np.float32)
    got = first(artifact(artifact.made_up(3))).reshape(-1)[: len(expected)]
    difference = float(abs(got - expected).max(initial=0))
    samples = artifact.made_up(batch)
    artifact(samples)
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        artifact(samples)
        times.append(time.perf_counter() - begin)
    return {
        "load": loading,
        "same": bool(difference <= CLOSE * max(1e-6, float(abs(expected).max(initial=0)))),
        "difference": difference,
        "median": median(times),
        "p95": float(np.percentile(times, 95, method="inverted_cdf")),
        "per_second": calls * batch / sum(times),
    }


def main(words: list[str]) -> None:
    """Print what came of it, or the sentence on why it was refused, as JSON."""
    from ..errors import LabError

    try:
        outcome = trial(Path(words[0]), *map(int, words[1:]))
    except LabError as error:
        outcome = {"refused": str(error)}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
