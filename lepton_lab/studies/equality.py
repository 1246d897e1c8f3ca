"""Whether two runs of the same training computed the same: their losses, and the parameters that they ended in."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..charts.series import read
from ..metrics import MINIMISED
from ..spec import Spec
from ..tables import table, trait

if TYPE_CHECKING:
    from torch import nn

    from ..run.handle import Run

FIRST = 10  # steps over which losses are held to each other: rounding has not grown yet
# Of losses, relative; seen between one process and two on the models here: 7e-7 in fp32 on the CPU.
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}
TF32 = 5e-3  # of fp32 on a GPU, where convolutions multiply with ten bits

DIFFERS = "DIFFERS"


class Equality(NamedTuple):
    """How far a run is from its reference."""

    check: str
    """The verdict in a few words."""
    loss_difference: float
    """Of the first ten steps' losses, relative to the reference's."""
    loss_tolerance: float
    curve_difference: float
    """Of all steps' losses."""
    parameter_difference: float
    """Of any value at the end."""
    parameter_tolerance: float


def exact(spec: Spec) -> bool:
    """Whether a spec's strategy, with its options, computes what one process does, to rounding."""
    strategy = table("strategy").get(spec.strategy)  # none for a user's own, which promises nothing
    return strategy is not None and strategy(spec, **spec.options_of(strategy)).exact


def compare(run: Run, reference: Run) -> Equality:
    """How far a run that is done is from another, and whether that is too far for its strategy."""
    ours, theirs = (dict(zip(*read(r).curves[MINIMISED], strict=True)) for r in (run, reference))
    apart = [abs(ours[step] - theirs[step]) / abs(theirs[step] or 1.0) for step in sorted(ours.keys() & theirs)]
    first, whole = (max(differences, default=math.nan) for differences in (apart[:FIRST], apart))
    parameters, randomness = _parameters(run, reference, *(r.facts.get("checkpoint") for r in (run, reference)))
    losses, values = tolerances(reference.spec, len(theirs), "cuda" in reference.facts.get("device_name", "cpu"))
    if run == reference:
        check = "the reference"
    elif not exact(run.spec):
        check = "own model, not held to it"
    elif randomness and _drawn(run) != _drawn(reference):
        check = f"not held to it: {randomness}"
    elif not (ours.keys() == theirs.keys() and first <= losses):
        check = DIFFERS
    else:
        check = "equal" if parameters <= values else f"equal for {FIRST} steps, then rounding has grown"
    return Equality(check, first, losses, whole, parameters, values)


def tolerances(spec: Spec, steps: int, gpu: bool) -> tuple[float, float]:
    """
    What rounding may come to: of losses (relative), and of a parameter after `steps` (absolute).

    Rounding adds up over steps. Under an optimizer that scales each value's step, a parameter whose gradient is
    nothing but rounding (such as a key's bias in attention) walks at random by up to lr a step.
    """
    precision = "bf16" if spec.precision == "auto" else spec.precision
    losses = TF32 if gpu and precision == "fp32" else TOLERANCE[precision]
    values = losses * max(1.0, steps / FIRST)
    return losses, values if trait("optimizer", spec.optimizer, "additive") else max(values, spec.lr * math.sqrt(steps))


def _drawn(run: Run) -> tuple[int, int]:
    """Into how many parts a run's ranks cut a batch, and which random numbers the last one draws for dropout."""
    kind = table("strategy")[run.spec.strategy]
    strategy = kind(run.spec, **run.spec.options_of(kind))
    strategy.rank = run.spec.world - 1
    return run.facts["parts"], strategy.stream


@lru_cache(maxsize=64)
def _parameters(run: Run, reference: Run, at: int, theirs_at: int) -> tuple[float, str]:
    """The largest difference of any value of two models, as of these checkpoints, and why it need not be small."""
    ours, theirs = run.model(), reference.model()
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    largest = max(((a.double() - b.double()).abs().max().item() for a, b in pairs if a.numel()), default=0.0)
    return largest, _randomness(theirs)


def _randomness(model: nn.Module) -> str:
    """What in a model depends on how the batch is split, in words; "" if nothing does."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd

    for layer in model.modules():
        if isinstance(layer, _DropoutNd) and layer.p > 0:
            return "every rank draws its own dropout"
        if isinstance(layer, _BatchNorm):
            return "batch norm takes its figures from each rank's part"
    return ""
