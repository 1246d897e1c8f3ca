"""How small a LeNet gets as a file that loads and runs, on MNIST over seeds, beside what papers tell of theirs."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from .processes import image_data
from .rows import Row

if TYPE_CHECKING:
    from lepton_lab import Run

TITLE = "Compression records on MNIST: times smaller than dense weights in fp32, means over seeds (least to most)"
SEEDS = 3
DENSE: dict[str, Any] = {"model": "lenet", "batch_size": 100, "lr": 1.5e-3, "schedule": "cosine"}
DENSE |= {"epochs": 4, "precision": "auto"}
TAUGHT: dict[str, Any] = {"temperature": 3.0, "labels": False, "stays": True}
SMALL = {"model": "lenet", "options": {"version": "300-100"}}
CHAINS = {
    "LeNet-300-100": [
        ("distill", {**TAUGHT, "student": SMALL, "epochs": 5}),
        ("mask", {"ratio": 0.97, "scope": "global", "rounds": 5, "epochs": 10}),
        ("share", {"bits": 4, "epochs": 2}),
    ],
    "LeNet-5": [
        ("distill", {**TAUGHT, "epochs": 0}),
        ("mask", {"ratio": 0.99, "scope": "global", "rounds": 4, "epochs": 4}),
        ("share", {"bits": 4, "epochs": 1}),
    ],
}
"""LeNet-5 teaches both, from its answers alone."""
AIMS = {"LeNet-300-100": (90, 1.9), "LeNet-5": (150, 1.6)}
"""Times smaller at least, and errors at most, in percent."""
BITS, WEIGHTS = "bits of weights, places and values, in no file", "weights that are not 0, in no file"
PUBLISHED = {
    "LeNet-300-100": [
        ("Deep Compression, arXiv:1510.00149", 40, 1.58, BITS),
        ("dynamic network surgery, arXiv:1608.04493", 56, 1.99, WEIGHTS),
        ("sparse variational dropout, arXiv:1701.05369", 68, 1.92, WEIGHTS),
    ],
    "LeNet-5": [
        ("Deep Compression, arXiv:1510.00149", 39, 0.74, BITS),
        ("dynamic network surgery, arXiv:1608.04493", 111, 0.91, WEIGHTS),
        ("sparse variational dropout, arXiv:1701.05369", 280, 0.75, WEIGHTS),
    ],
}
"""By network: whose, times smaller, errors in percent, and what they count."""


def measure(quick: bool) -> list[Row]:
    """A row of bytes, of weights and of errors for each network. Quick: one seed, an epoch for each round."""
    if image_data() != "mnist":
        raise RuntimeError("MNIST is needed: put its files under the folder that LEPTON_LAB_DATA names")
    runs: dict[str, list[Run]] = {name: [] for name in CHAINS}
    for seed in range(1 if quick else SEEDS):
        for name, run in trained(seed, quick).items():
            runs[name].append(run)
    rows = []
    for name, several in runs.items():
        smaller, most = AIMS[name]
        files = [smallest(run) for run in several]
        rows += [
            Row(f"{name}: bytes of the file", [bytes for bytes, _, _ in files], "times", at_least=smaller, middle=mean),
            Row(f"{name}: its weights that are not 0", [weights for _, weights, _ in files], "times", middle=mean),
            Row(
                f"{name}: its errors on the test set", [errors for *_, errors in files], "%", at_most=most, middle=mean
            ),
        ]
        for whose, times, errors, counts in PUBLISHED[name]:
            rows += [Row(f"({name}, {whose}: {counts}; {errors} % errors)", [times], "times")]
    return rows


def trained(seed: int, quick: bool = False) -> dict[str, Run]:
    """The run of each chain, of one seed."""
    import lepton_lab as lab

    spec = lab.Spec(dataset="mnist", seed=seed, eval_every=0, checkpoint_every=0, **DENSE)
    dense = _done(lab.launch(spec.replace(epochs=1) if quick else spec))
    return {name: _done(lab.compress(dense, short(chain) if quick else chain)) for name, chain in CHAINS.items()}


def short(chain: list[Any]) -> list[Any]:
    """A chain with an epoch for each round."""
    return [(name, {**options, "epochs": options.get("rounds", 1)}) for name, options in chain]


def smallest(run: Run) -> tuple[float, float, float]:
    """How many times smaller a run's file is, and how many times fewer its weights; and its errors in percent."""
    from lepton_lab.run.estimates import measured

    module, told = run.model(), measured(run)["artifact"]
    weights = [p for p in module.parameters() if p.dim() > 1]
    kept = sum(int(weight.count_nonzero()) for weight in weights)
    dense = sum(p.numel() for p in module.parameters())
    return 4 * dense / told["bytes"], sum(w.numel() for w in weights) / kept, 100 * (1 - told["accuracy"])


def _done(run: Run) -> Run:
    if run.wait() != "done":
        raise RuntimeError(f"{run} {run.failure or ''}")
    return run
