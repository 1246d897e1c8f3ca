"""What chains save of a model and what they cost: on MNIST, over seeds, beside dense peers that take turns."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from .processes import cores, image_data
from .rows import Row

if TYPE_CHECKING:
    from lepton_lab import Run, Spec
    from lepton_lab.measures import Measured
    from lepton_lab.run.estimates import Estimate

TITLE = "Compression on MNIST, latency at batch 64 on one thread: means over seeds (least to most)"
SEEDS = 3
BATCH = 64
POINTS = 100.0
ORT = "dense under ONNX Runtime"

CNN = {"model": "mnist_cnn", "epochs": 3}
WIDTHS = {"0": 0.8125, "3": 0.75, "7": 0.5}
"""What goes of each layer of `mnist_cnn`: 6 of 32 channels, 16 of 64 and 64 of 128 neurons stay. Most of the time goes
where images are large: the first layer's outputs, their pooling and rounding. Multiples of 16 have fast kernels."""
CHAIN = [
    ("prune", {"ratios": WIDTHS, "epochs": 0}),
    ("distill", {"temperature": 2.0, "alpha": 0.7, "epochs": 12}),
    ("quantize", "int8"),
]
STUDENT = {"model": "mlp", "options": {"hidden": 128}}
TAUGHT = [("distill", {"student": STUDENT, "temperature": 2.0, "alpha": 0.5, "epochs": 12})]
"""Long enough for labels alone to fit the training set too well: after 4 epochs they are still ahead."""
TRANSFORMER = {"model": "transformer", "options": {"patch": 7}, "epochs": 3}
HALVED = [("prune", {"ratio": 0.5, "epochs": 3}), ("quantize", "int8_dynamic")]


@dataclass
class Case:
    """One file a seed, measured, with what was foretold of it."""

    what: str
    measured: list[Measured] = field(default_factory=list)
    foretold: list[Estimate] = field(default_factory=list)

    def rows(self, smaller: float, faster: float, lost: float, rival: str = "") -> list[Row]:
        """Bytes, latency and accuracy; `rival`: what it must be faster than, in place of the best peer."""
        from lepton_lab.measures import TRAINED_ON

        rivals = [peer(one, rival) if rival else one.best_peer(BATCH) for one in self.measured]
        named = " or ".join(sorted({one.name for one in rivals}))
        dense = [peer(one, "dense, eager").bytes for one in self.measured]
        ours, control = ([POINTS * one.accuracy for one in them] for them in (self.measured, self.peers(TRAINED_ON)))
        return [
            Row(f"{self.what}: bytes, beside the dense weights in fp32", [one.bytes / 1e3 for one in self.measured],
                "kB", [n / 1e3 for n in dense], at_most=1 / smaller, middle=mean),
            Row(f"{self.what}: latency, beside {named}", milliseconds(self.measured), "ms", milliseconds(rivals),
                at_most=1 / faster, middle=mean),
            Row(f"{self.what}: accuracy lost, {mean(ours):.2f} % beside {mean(control):.2f} % of dense trained as long",
                [b - a for a, b in zip(ours, control, strict=True)], "points", at_most=lost, middle=mean),
        ]  # fmt: skip

    def peers(self, name: str) -> list[Measured]:
        return [peer(one, name) for one in self.measured]

    def errors(self, figure: str) -> list[float]:
        """By how many percent estimates of a figure were off, whichever way."""
        pairs = zip(self.foretold, self.measured, strict=True)
        return [100 * abs(estimate.errors(measured.to_dict())[figure]) for estimate, measured in pairs]


def measure(quick: bool) -> list[Row]:
    """All runs of all seeds first; then the meters, with nothing beside them. Quick: one seed, on the digits."""
    import lepton_lab as lab

    if not quick and image_data() != "mnist":
        raise RuntimeError("MNIST is needed: put its files under the folder that LEPTON_LAB_DATA names")
    runs = [trained(seed, "digits" if quick else "mnist") for seed in range(1 if quick else SEEDS)]
    chain, int8 = Case("CNN, pruned, distilled, int8"), Case("CNN, int8 alone")
    halved, half = Case("transformer, half of heads and FFN, int8"), Case("transformer, half of heads and FFN, bf16")
    taught, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed, run in enumerate(runs):
            for case, name, of in ((chain, "chain", "cnn"), (int8, "int8", "cnn"), (halved, "halved", "transformer")):
                case.measured.append(lab.measure(run[name], peers=True, repeats=5 if quick else 30))
                case.foretold.append(lab.estimate(run[of], run[name].spec.compress))
                say(seed, f"{case.what}\n{case.measured[-1]}")
            half.measured.append(in_bf16(run["halved"], run["transformer"], Path(folder) / f"{seed}.lepton", quick))
            say(seed, f"{half.what}\n{half.measured[-1]}")
            taught.append(POINTS * lab.measure(run["taught"], batches=[BATCH]).accuracy)
            plain.append(POINTS * lab.measure(run["plain"], batches=[BATCH]).accuracy)
    won, other = sorted((halved, half), key=lambda case: mean(milliseconds(case.measured)))
    rows = [*chain.rows(20, 4, 0.5), *int8.rows(3.5, 1.5, 0.2, ORT), *won.rows(5, 1.5, 1.0)]
    rows.append(
        Row(
            f"({other.what}: latency, beside the other)",
            milliseconds(other.measured),
            "ms",
            milliseconds(won.measured),
            middle=mean,
        )
    )
    gained = [a - b for a, b in zip(taught, plain, strict=True)]
    told = f"{mean(taught):.2f} % beside {mean(plain):.2f} %"
    spread = f", standard deviation {stdev(gained):.2g}" if len(gained) > 1 else ""
    rows.append(
        Row(
            f"distilled MLP of {STUDENT['options']['hidden']}: accuracy gained over labels alone ({told}{spread})",
            gained,
            "points",
            at_least=0.01,
            middle=mean,
        )
    )
    return rows + foretold([chain, int8, halved])


def foretold(cases: list[Case]) -> list[Row]:
    """How far estimates were off: all files and seeds, of which the worst counts."""
    aims = {"bytes": 2, "multiply_adds": 0, f"latency {BATCH}": 30}
    return [
        Row(
            f"estimate of {figure.replace('_', '-')}, off by at most: {case.what}",
            case.errors(figure),
            "%",
            at_most=aim,
            middle=max,
        )
        for figure, aim in aims.items()
        for case in cases
    ]


def trained(seed: int, dataset: str) -> dict[str, Run]:
    """The runs of a seed, parents first; a control is trained once for each parent."""
    import lepton_lab as lab

    world = min(2, len(cores()))
    base = lab.Spec(
        dataset=dataset,
        seed=seed,
        strategy="ddp",
        world=world,
        batch_size=128,
        lr=3e-3,
        schedule="cosine",
        checkpoint_every=0,
        eval_every=0,
    )
    done: dict[str, Run] = {}

    def run(name: str, spec: Spec | None = None, parent: str = "", chain: Any = ()) -> None:
        begin = time.perf_counter()
        done[name] = lab.launch(spec) if spec else lab.compress(done[parent], chain)
        if done[name].wait() != "done":
            raise RuntimeError(f"{name}: {done[name].failure or done[name]}")
        say(seed, f"{name}: {time.perf_counter() - begin:.0f} s {done[name].summary()}")

    run("cnn", base.replace(**CNN))
    small = dataset == "digits"  # images of 8x8 pixels are pooled once, and layers have other numbers
    run("chain", parent="cnn", chain=[("prune", {"epochs": 0}), *CHAIN[1:]] if small else CHAIN)
    run("int8", parent="cnn", chain="quantize")
    run("taught", parent="cnn", chain=TAUGHT)
    run("plain", base.replace(**STUDENT, epochs=TAUGHT[0][1]["epochs"]))
    run("transformer", base.replace(**TRANSFORMER))
    run("halved", parent="transformer", chain=HALVED)
    return done


def in_bf16(child: Run, parent: Run, path: Path, quick: bool) -> Measured:
    """The module that a chain made, in bfloat16 in place of its own scheme."""
    import lepton_lab as lab
    from lepton_lab.measures.candidates import run_data
    from lepton_lab.store.trained import peers

    lab.export(child, path, scheme="bf16")
    control = peers(child.store)[1]
    return lab.measure(path, run_data(child), peers=True, dense=parent, control=control, repeats=5 if quick else 30)


def peer(one: Measured, name: str) -> Measured:
    return next(other for other in one.peers if other.name == name)


def milliseconds(them: list[Measured]) -> list[float]:
    return [1e3 * one.latency[BATCH].median for one in them]


def say(seed: int, text: str) -> None:
    """How far it is, on the error stream: a run takes minutes."""
    print(f"seed {seed}, {text}", file=sys.stderr, flush=True)
