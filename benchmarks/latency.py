"""
The constants of `lepton_lab.measures.latency`, fitted on this machine: `python -m benchmarks.latency`, some minutes.

Models of all kinds, dense, pruned and of low rank, are written in every scheme and timed in turn, in rounds: of what
disturbs a machine a few rounds are free. Times are those of the thread, so that others' processes count less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from lepton_lab import About
    from lepton_lab.artifacts import Artifact

SCHEMES = ("fp32", "int8_static", "bf16", "int8_dynamic")
BATCHES = (1, 64)
CALLS = {1: 60, 64: 12}  # a round; its lower quartile counts, and of all rounds the least
PRUNED = {"mnist_cnn": (0.3, 0.5, 0.65, 0.8, 0.9), "cnn": (0.4, 0.6, 0.8), "mlp": (0.5,), "transformer": (0.5, 0.75)}
THIN = {"mnist_cnn": (0.25, 0.1), "cnn": (0.25,), "mlp": (0.2,), "transformer": (0.25,)}
WIDE: dict[str, dict[str, Any]] = {"mlp": {"hidden": 1024}, "transformer": {"width": 128}}


def models() -> Iterator[tuple[str, nn.Module]]:
    """Name and module, whose weights mean nothing."""
    for name in PRUNED:
        for options in ({}, WIDE[name]) if name in WIDE else ({},):
            yield f"{name} {options or ''}", made(name, [], options)
            for ratio in PRUNED[name]:
                yield f"{name} {options or ''} pruned {ratio}", made(name, [("prune", ratio)], options)
            for rank in THIN[name]:
                yield f"{name} {options or ''} rank {rank}", made(name, [("low_rank", rank)], options)


def made(name: str, chain: list[Any], options: dict[str, Any]) -> nn.Module:
    import torch

    import lepton_lab as lab
    from lepton_lab.compressors import rehearse
    from lepton_lab.models import MODELS

    module = MODELS[name]((1, 28, 28), 10, 0, **options).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    if not chain:
        return module
    spec = lab.Spec(model=name, dataset="mnist", parent="none", compress=chain)
    return rehearse(module, spec, (1, 28, 28), 10, 0)


def written(folder: Path, about: About) -> Iterator[tuple[str, str, list[list[float]], Artifact]]:
    """Model, scheme and runtime, features by batch size, and file."""
    import torch

    from lepton_lab import artifacts
    from lepton_lab.measures import latency

    for i, (name, module) in enumerate(models()):
        work = latency.work(module, torch.zeros(1, 1, 28, 28))
        for scheme in SCHEMES:
            samples = about.samples(64) if scheme == "int8_static" else None
            file = artifacts.write(folder / f"{i}.{scheme}.lepton", module, about, scheme, samples).with_threads(1)
            yield name, f"{scheme} {file.runtime}", [work.features(batch) for batch in BATCHES], file


def thread_time(file: Artifact, batch: np.ndarray) -> float:
    """Seconds of a forward pass, of this thread alone: the lower quartile of a round."""
    file.forward(batch)
    taken = []
    for _ in range(CALLS[len(batch)]):
        begin = time.thread_time()
        file.forward(batch)
        taken.append(time.thread_time() - begin)
    return sorted(taken)[len(taken) // 4]


def fit(rows: list[tuple[list[float], float]]) -> list[float]:
    """
    Constants, none below 0, whose predictions have the least squared error relative to what was measured.

    Each row holds features, as `Work.features` gives them, and seconds.
    """
    import numpy as np
    from scipy.optimize import nnls

    features, seconds = np.array([f for f, _ in rows]), np.array([s for _, s in rows])
    scaled = features / seconds[:, None]
    sizes = np.maximum(scaled.max(0), 1e-30)  # of columns whose units differ by twelve orders
    constants, _ = nnls(scaled / sizes, np.ones(len(rows)))
    return [float(f"{value:.5g}") for value in constants / sizes]


def keep(place: str, laws: dict[str, list[float]]) -> None:
    """Have estimates use these constants on this machine, which names itself `place`."""
    from lepton_lab.files import home, write_json
    from lepton_lab.measures.latency import FILE

    home().mkdir(parents=True, exist_ok=True)
    write_json(home() / FILE, {"place": place, "laws": laws})


def main() -> None:
    """Fit, print and, if wanted, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of timing: %(default)s")
    parser.add_argument("--keep", action="store_true", help="have estimates use them on this machine")
    asked = parser.parse_args()
    import torch

    import lepton_lab as lab
    from lepton_lab.store import provenance

    torch.set_num_threads(1)
    digits = [str(digit) for digit in range(10)]
    about = lab.About("any", (1, 28, 28), "uint8", digits, mean=(0.1307,), std=(0.3081,))
    with tempfile.TemporaryDirectory() as folder:
        files = list(written(Path(folder), about))
        samples = {batch: about.samples(batch).numpy() for batch in BATCHES}
        least: dict[tuple[int, int], float] = {}
        for _ in range(asked.rounds):
            for i, (*_, file) in enumerate(files):
                for batch in BATCHES:
                    least[i, batch] = min(thread_time(file, samples[batch]), least.get((i, batch), float("inf")))
    laws: dict[str, list[float]] = {}
    for law in dict.fromkeys(law for _, law, _, _ in files):
        rows = [
            (features, least[i, batch])
            for i, (_, of, told, _) in enumerate(files)
            for features, batch in zip(told, BATCHES, strict=True)
            if of == law
        ]
        laws[law] = fit(rows)
        errors = [abs(sum(c * f for c, f in zip(laws[law], fs, strict=True)) / t - 1) for fs, t in rows]
        print(f'    "{law}": {laws[law]},  # off by {median(errors):.0%}, at most {max(errors):.0%}', flush=True)
    if asked.keep:
        keep(provenance.processor(), laws)


if __name__ == "__main__":
    main()
