"""explain(): what in a picture a model's answer depends on, before and after compression (captum, extra [explain])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..charts.maps import Maps, Sample
from ..engine.feed import by_itself
from ..errors import LabError, SpecError, needs, shown, unknown
from ..measures.sources import run_data
from ..run.handle import Run, attach
from ..spec import CELL
from ..store import trained
from ..store.folder import ENDED
from ..store.naming import labels

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from ..datasets import Data

    Attribute = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

METHODS = {
    "integrated_gradients": "integrated gradients",
    "saliency": "saliency",
}
MOST = 16  # samples of one chart
STEPS = 50
"""Points on the way from black to the picture at which integrated gradients looks."""
READ = {
    "integrated_gradients": "Blue speaks for the class that {first} names, orange against it",
    "saliency": "Darker: the score of the class that {first} names moves more with the pixel",
}


@dataclass(frozen=True)
class Pictures:
    """The samples that are explained."""

    numbers: list[int]
    """Their places in the split."""
    raw: Tensor
    """(N, *shape), as the data have them."""
    x: Tensor
    """(N, *shape), as the model takes them."""
    y: Tensor
    """Labels (N,)."""
    black: Tensor
    """A black picture (1, *shape), as the model takes it."""


def explain(run: Run | str, *, samples: int = 4, method: str = "integrated_gradients", seed: int = 0) -> Maps:
    """
    Show what in the same test pictures counts for a model before and after compression.

    Both maps of a picture are about one class, that which the model before compression names, so that they can be
    compared. How alike they are is Spearman's rank correlation over the pixels that count for either.

    Parameters
    ----------
    run
        A run on images that compressed, or its id; of any other run its one model is shown.
    samples
        How many pictures, 1 to 16, drawn from the test set (the validation set where there is no other).
    method
        "integrated_gradients": what each pixel adds to the score, on the way from a black picture to this one
        (Sundararajan et al. 2017); "saliency": how much the score moves with it (Simonyan et al. 2013).
    seed
        Of the draw of the pictures.

    Returns
    -------
    Maps
        A chart of pictures and maps side by side. Its `samples` hold the numbers, `alike` is the mean rank correlation.

    Raises
    ------
    SpecError
        If an argument is refused.
    LabError
        If captum is not installed, the run has not come so far, or it is not about telling images apart.
    """
    import torch

    if method not in METHODS:
        raise SpecError(f"method={shown(method)}: {unknown('method', str(method), METHODS)}")
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= MOST:
        raise SpecError(f"samples={shown(samples)}: must be a whole number from 1 to {MOST}")
    run = attach(run)
    models, control = _models(run)
    attribute = _captum(method)
    data = run_data(run)
    _telling_images_apart(run, data)
    pictures = _pictures(run, data, samples, seed)
    x, black = pictures.x, pictures.black
    with torch.no_grad():
        scores = [module(_like(x, module)).float() for module in models.values()]
    for given in scores:
        if given.shape != (len(x), len(data.classes)):
            raise LabError(
                f"run {run.id!r}: its model gives {tuple(given.shape)} for {len(x)} pictures of {len(data.classes)} "
                "classes; explain needs one score for each picture and class"
            )
    targets = scores[0].argmax(-1)
    maps = [_maps(attribute, module, x, black, targets) for module in models.values()]
    rows = []
    for i, number in enumerate(pictures.numbers):
        sure = [given[i].softmax(-1) for given in scores]
        said = tuple((data.classes[int(one.argmax())], float(one.max())) for one in sure)
        drawn = tuple(found[i].numpy() for found in maps)
        same = alike(maps[0][i], maps[1][i]) if len(maps) == 2 else None
        label = data.classes[k] if (k := int(pictures.y[i])) >= 0 else "ignored"
        rows.append(Sample(number, label, _picture(pictures.raw[i]), drawn, said, same))
    held_to = None
    if control is not None:
        pairs = zip(maps[0], _maps(attribute, control, x, black, targets), strict=True)
        known = [found for a, b in pairs if (found := alike(a, b)) is not None]
        held_to = sum(known) / len(known) if known else None
    return _chart(run, method, tuple(models), tuple(rows), held_to)


def alike(a: Tensor, b: Tensor) -> float | None:
    """
    Spearman's rank correlation of two maps, over the pixels that count for either; ties share their mean rank.

    None where it is not defined: a map in which all of these count the same, or fewer than three of them.
    """
    from scipy.stats import spearmanr

    counts = (a != 0) | (b != 0)
    a, b = a[counts], b[counts]
    if len(a) < 3 or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return None
    return float(spearmanr(a.numpy(), b.numpy()).statistic)


def _models(run: Run) -> tuple[dict[str, nn.Module], nn.Module | None]:
    """The models to explain by name; and of a run that compressed the control, to compare with."""
    if not run.spec.compress:
        return {run.spec.model.removeprefix(CELL): run.model()}, None
    if (state := run.state) != "done":
        remedy = "resume it" if state in ENDED else "wait for its end with run.wait()"
        raise LabError(f"run {run.id!r} is {state}: explain compares what its whole chain made; {remedy} first")
    dense, control = trained.peers(run.store)
    return {"dense": dense, "compressed": run.model()}, control


def _captum(method: str) -> Attribute:
    """The method as a function of a module, pictures (N, *shape), their classes and a black picture."""
    needs("explain", "captum")
    from captum.attr import IntegratedGradients, Saliency

    def gradients(module: nn.Module, x: Tensor, target: Tensor, black: Tensor) -> Tensor:
        found = IntegratedGradients(module).attribute(x, black, target, n_steps=STEPS)
        return found.sum(1) if found.dim() == 4 else found  # of its channels

    def saliency(module: nn.Module, x: Tensor, target: Tensor, black: Tensor) -> Tensor:
        found = Saliency(module).attribute(x, target)
        return found.amax(1) if found.dim() == 4 else found

    return gradients if method == "integrated_gradients" else saliency


def _telling_images_apart(run: Run, data: Data) -> None:
    """Refuse what has no picture to draw on, or no class to explain."""
    said = f"run {run.id!r}, on {run.spec.dataset!r},"
    if data.vocabulary:
        raise LabError(f"{said} is on tokens: explain draws on pictures; take a run on images, such as 'digits'")
    if len(data.shape) not in (2, 3):
        raise LabError(
            f"{said} is on samples of shape {tuple(data.shape)}: explain draws on pictures, (channels, height, width) "
            "or (height, width); take a run on images, such as 'digits'"
        )
    if not data.classes:
        raise LabError(f"{said} is a regression: explain tells what speaks for a class, and it has none")
    if data.test is None and data.val is None:
        raise LabError(f"{said} has neither test nor validation samples to explain; launch it with data=(train, test)")


def _pictures(run: Run, data: Data, count: int, seed: int) -> Pictures:
    """So many of the test set, else of the validation set, drawn by `seed`."""
    import torch

    split: Any = data.test if data.test is not None else data.val
    pair = isinstance(split, tuple)
    n = len(split[0] if pair else split)
    if count > n:
        raise SpecError(f"samples={count}: run {run.id!r} has {n} test samples; take at most as many")
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:count]
    if pair:
        raw, y = split[0][drawn], split[1][drawn]
    else:
        both = [split[int(i)] for i in drawn]
        raw, y = torch.stack([torch.as_tensor(x) for x, _ in both]), torch.tensor([int(y) for _, y in both])

    def taken(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        batches = list(by_itself((x, y), data, run.spec).whole())
        return torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])

    black, _ = taken(torch.zeros_like(raw[:1]), y[:1])
    return Pictures(drawn.tolist(), raw, *taken(raw, y), black)


def _maps(attribute: Attribute, module: nn.Module, x: Tensor, black: Tensor, targets: Tensor) -> Tensor:
    """What each pixel counts, (N, H, W)."""
    import torch

    x, black = _like(x, module), _like(black, module)
    each = zip(x.split(1), targets.split(1), strict=True)  # one by one: STEPS of each are computed at once
    return torch.cat([attribute(module, a.clone().requires_grad_(), k, black).detach().float() for a, k in each])


def _like(x: Tensor, module: nn.Module) -> Tensor:
    """Samples in the numbers that a module computes with."""
    import torch

    return x.to(next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32))


def _picture(raw: Tensor) -> np.ndarray:
    """A raw sample as (H, W) or (H, W, 3), 0 to 1."""
    import torch

    x = raw.float() / 255 if raw.dtype == torch.uint8 else (raw - raw.min()) / (raw.max() - raw.min()).clamp(min=1e-12)
    if x.dim() == 3:
        x = x.permute(1, 2, 0) if len(x) == 3 else x.mean(0)
    return x.float().numpy()


def _chart(run: Run, method: str, heads: tuple[str, ...], rows: tuple[Sample, ...], control: float | None) -> Maps:
    """The chart, and the same in words."""
    name = METHODS[method].capitalize()
    title = f"{name} before and after compression" if len(heads) == 2 else f"{name} of {labels([run])[0]}"
    note = READ[method].format(first=f"the {heads[0]} model" if len(heads) == 2 else "the model")
    note += "; each map by its own strongest pixels"
    words = []
    for row in rows:
        said = ", ".join(
            f"{head} says {label} ({sure:.0%})" for head, (label, sure) in zip(heads, row.said, strict=True)
        )
        same = "" if row.alike is None else f", maps {row.alike:.2f} alike"
        words.append(f"sample {row.number} is {row.label}: {said}{same}")
    known = [row.alike for row in rows if row.alike is not None]
    if known:
        note += f"; alike: rank correlation, in the mean {sum(known) / len(known):.2f}"
        if control is not None:
            note += f" (the dense model and itself trained on for as long: {control:.2f})"
    last = next(iter(run.spec.compress[-1])) if run.spec.compress else ""
    if last == "quantize":
        note += "; compressed: before its numbers are rounded for the file, which has no gradients"
    return Maps(title, f"{title}. {note}. {'; '.join(words)}.", heads, rows, method != "saliency", note)
