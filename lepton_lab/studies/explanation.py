"""explain(): what in a picture a model's answer depends on, before and after compression (captum, extra [explain])."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from ..charts.maps import Maps, Sample
from ..errors import LabError, SpecError, needs, shown
from ..measures.candidates import run_data, run_task
from ..run.handle import Run, attach
from ..spec import CELL
from ..store import naming, trained
from ..store.folder import ENDED
from ..tables import pick

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from ..datasets import Data
    from .pictured import Pictures

METHODS = {"integrated_gradients": "integrated gradients", "saliency": "saliency"}
MOST = 16  # samples of one chart
STEPS = 50
"""Points on the way from black to the picture at which integrated gradients looks."""
KEYS = {
    "integrated_gradients": "Blue speaks for the class that {first} names, orange against it",
    "saliency": "Darker: the score of the class that {first} names moves more with the pixel",
}
"""How the colours of each method are read."""


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

    pick(METHODS, str(method), "method")
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= MOST:
        raise SpecError(f"samples={shown(samples)}: must be a whole number from 1 to {MOST}")
    run = attach(run)
    models, control = _models(run)
    needs("explain", "captum")
    pictures, classes = _pictures(run, next(iter(models.values())), samples, seed)
    with torch.no_grad():
        scores = [_scores(pictures.asking(module)(_like(pictures.x, module))) for module in models.values()]
    if pictures.task is not None and scores[0].dim() == 2:  # a model may tell more classes apart than have names
        classes = [*classes, *map(str, range(len(classes), scores[0].shape[1]))]
    for output in scores:
        if output.shape != (samples, len(classes)):
            raise LabError(
                f"run {run.id!r}: its model gives {tuple(output.shape)} for {samples} pictures of {len(classes)} "
                "classes; explain needs one score for each picture and class"
            )
    targets = scores[0].argmax(-1)
    maps = [_maps(method, module, pictures, targets) for module in models.values()]
    drawn = []
    for i, number in enumerate(pictures.numbers):
        chances = [output[i].softmax(-1) for output in scores]
        answers = tuple((classes[int(chance.argmax())], float(chance.max())) for chance in chances)
        correlation = alike(maps[0][i], maps[1][i]) if len(maps) == 2 else None
        label = classes[k] if (k := int(pictures.y[i])) >= 0 else "ignored"
        image, colours = _picture(pictures.raw[i]), tuple(of_model[i].numpy() for of_model in maps)
        drawn.append(Sample(number, label, image, colours, answers, correlation))
    baseline = None
    if control is not None:
        pairs = zip(maps[0], _maps(method, control, pictures, targets), strict=True)
        defined = [value for a, b in pairs if (value := alike(a, b)) is not None]
        baseline = mean(defined) if defined else None
    return _chart(run, method, tuple(models), tuple(drawn), baseline)


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


def _telling_images_apart(run: Run, data: Data) -> None:
    """Refuse what has no picture to draw on, or no class to explain."""
    what = f"run {run.id!r}, on {run.spec.dataset!r},"
    if data.vocabulary:
        raise LabError(f"{what} is on tokens: explain draws on pictures; take a run on images, such as 'digits'")
    if len(data.shape) not in (2, 3):
        raise LabError(
            f"{what} is on samples of shape {tuple(data.shape)}: explain draws on pictures, (channels, height, width) "
            "or (height, width); take a run on images, such as 'digits'"
        )
    if not data.classes:
        raise LabError(f"{what} is a regression: explain tells what speaks for a class, and it has none")
    if data.test is None and data.val is None:
        raise LabError(f"{what} has neither test nor validation samples to explain; launch it with data=(train, test)")


def _pictures(run: Run, module: nn.Module, count: int, seed: int) -> tuple[Pictures, list[str]]:
    """What is explained, and the names of its classes."""
    from . import pictured

    data = run_data(run)
    task = run_task(run, data)
    if task.takes_raw:
        _telling_images_apart(run, data)
        return pictured.of_pair(run, data, count, seed), data.classes
    pictures = pictured.of_task(run, task, module, count, seed)
    return pictures, task.labels(module)


def _scores(output: Any) -> Tensor:
    """Scores in float32; nothing of what is no tensor."""
    import torch

    return output.float() if isinstance(output, torch.Tensor) else torch.zeros(0)


def _maps(method: str, module: nn.Module, pictures: Pictures, targets: Tensor) -> Tensor:
    """What each pixel counts for the class of its picture, (N, H, W)."""
    import torch
    from captum.attr import IntegratedGradients, Saliency

    x, black = _like(pictures.x, module), _like(pictures.black, module)
    maps = []
    pairs = zip(x.split(1), targets.split(1), strict=True)
    for place, (picture, target) in enumerate(pairs):  # STEPS of each are computed at once
        picture, asked = picture.clone().requires_grad_(), pictures.asking(module, place)
        if method == "saliency":
            values = Saliency(asked).attribute(picture, target)
        else:
            values = IntegratedGradients(asked).attribute(picture, black, target, n_steps=STEPS)
        if values.dim() == 4:  # of its channels
            values = values.amax(1) if method == "saliency" else values.sum(1)
        maps.append(values.detach().float())
    return torch.cat(maps)


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


def _chart(run: Run, method: str, heads: tuple[str, ...], samples: tuple[Sample, ...], control: float | None) -> Maps:
    name, both = METHODS[method].capitalize(), len(heads) == 2
    heading = f"{name} before and after compression" if both else f"{name} of {naming.labels([run])[0]}"
    note = KEYS[method].format(first=f"the {heads[0]} model" if both else "the model")
    note += "; each map by its own strongest pixels"
    if defined := [sample.alike for sample in samples if sample.alike is not None]:
        note += f"; alike: rank correlation, in the mean {mean(defined):.2f}"
        if control is not None:
            note += f" (the dense model and itself trained on for as long: {control:.2f})"
    if run.spec.compress and "quantize" in run.spec.compress[-1]:
        note += "; compressed: before its numbers are rounded for the file, which has no gradients"
    words = []
    for sample in samples:
        answers = zip(heads, sample.said, strict=True)
        says = ", ".join(f"{head} says {label} ({chance:.0%})" for head, (label, chance) in answers)
        same = "" if sample.alike is None else f", maps {sample.alike:.2f} alike"
        words.append(f"sample {sample.number} is {sample.label}: {says}{same}")
    return Maps(heading, f"{heading}. {note}. {'; '.join(words)}.", heads, samples, method != "saliency", note)
