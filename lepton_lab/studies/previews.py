"""preview(): what transforms make of some samples, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import datasets
from ..chains import chain_name
from ..charts.cards import tabled
from ..errors import SpecError
from ..metrics import MINIMISED
from ..pictures import plain, words
from ..preparation import augmenting, fit
from ..run.checks import named
from ..run.own import Own
from ..spec import Spec
from ..tables import table
from ..tasks.seeing import FEW, given, label
from ..transforms import augmented, pixels

if TYPE_CHECKING:
    from torch import Tensor

    from ..charts.samples import Card
    from ..datasets import Data

MOST = 64  # samples
LIKELY = 0.005  # chance of a class that is told


class Preview:
    """
    Some training samples before and after a spec's transforms; see `preview`.

    A notebook draws it as a table. `show` draws others of the same data, which are read once.

    Attributes
    ----------
    spec : Spec
        Whose transforms it shows.
    epoch : int
        In which.
    before, after : Tensor
        The samples, (n, ...): as the data have them, and as they are before mean and deviation are taken off; pixels
        from 0 to 1.
    targets : Tensor
        Theirs, after: labels, chances (n, K) where they are mixed, or numbers.
    """

    def __init__(self, spec: Spec, data: Data, samples: int = 10, epoch: int = 0) -> None:
        self._raw, self._samples = data, samples
        self._made: tuple[Any, Data] | None = None
        self.show(spec, epoch)

    def show(self, spec: Spec, epoch: int = 0) -> Preview:
        """Show the transforms of another spec, or in another epoch; what does not fit is a SpecError."""
        import torch

        data = self._data(spec)
        if data.example is not None:
            raise SpecError(f"dataset={spec.dataset!r}: samples are no pairs (x, y), of which alone a preview is drawn")
        count = datasets.length(data.train)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(spec.seed))
        places = order[: self._samples].sort().values
        x, y = datasets.rows(data.train, places.tolist())
        # Samples that were left out or dealt anew are at other places than before.
        stay = datasets.length(self._raw.train) == count and data.history == self._raw.history
        raw = self._raw if stay else data
        self.before = pixels(datasets.rows(raw.train, places.tolist())[0])
        facts = augmenting(spec), spec.seed, epoch, places
        after, self.targets = augmented(pixels(x), y, *facts, classes=len(data.classes))
        self.after = _standardised(after, data)
        self.spec, self.epoch = spec, epoch
        # What is drawn is not scaled, and so not to be brought back.
        self._places, self._told = places.tolist(), [replace(part, mean=(), std=()) for part in (raw, data)]
        return self

    def _data(self, spec: Spec) -> Data:
        """The data after what makes them once, which is kept while that is the same."""
        once = [item for item in spec.transforms if not table("transform")[next(iter(item))].augments]
        if self._made is None or self._made[0] != (once, spec.seed):
            self._made = (once, spec.seed), datasets.load(spec.replace(transforms=once), self._raw)
        fit(self._made[1], spec)
        return self._made[1]

    @property
    def cards(self) -> list[Card]:
        """The samples as JSON has them: place, and what is seen before and after."""
        raw, data = self._told
        shown: list[Card] = []
        for i, place in enumerate(self._places):
            views = {"before": given(self.before[i], raw), "after": given(self.after[i], data)}
            views["label"] = words(_answer(self.targets[i], data))
            seen = plain({name: view for name, view in views.items() if view})
            shown.append({"sample": place, MINIMISED: None, "seen": seen})
        return shown

    def _repr_html_(self) -> str:
        return tabled(self.cards)

    def __repr__(self) -> str:
        chosen = chain_name(self.spec.transforms) or "no transforms"
        change = (self.after - self.before).abs().mean() if self.after.shape == self.before.shape else None
        how = "" if change is None else f"; a number changes by {float(change):.3g} in the mean"
        return f"Preview of {len(self._places)} samples of {self.spec.dataset}, epoch {self.epoch}: {chosen}{how}"


def preview(data: Spec | Any, transforms: Any = None, samples: int = 10, epoch: int = 0) -> Preview:
    """
    Draw some training samples before and after transforms; nothing is trained, and nothing is written.

    Parameters
    ----------
    data
        A Spec, whose data set and transforms are shown; or data, as `launch` takes them.
    transforms
        In place of the spec's, as `Spec` takes them.
    samples
        How many, from 1 to 64; those that are mixed are mixed with each other.
    epoch
        In which, from 0.

    Raises
    ------
    SpecError
        What `launch` would refuse of data and transforms, and samples that are no pairs.
    """
    for name, value, least, most in (("samples", samples, 1, MOST), ("epoch", epoch, 0, 2**31)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SpecError(f"{name}={value!r}: must be a whole number from {least} to {most}")
    spec = data if isinstance(data, Spec) else Spec()
    own = Own() if isinstance(data, Spec) else Own(data=data)
    spec = named(spec, own.parts)
    raw = own.raw(spec) or datasets.load(spec.replace(transforms=[]))
    return Preview(spec if transforms is None else spec.replace(transforms=transforms), raw, samples, epoch)


def _standardised(x: Tensor, data: Data) -> Tensor:
    """Rows of numbers (n, F) as a model gets them; all else as it is, since a picture shows no scale."""
    import torch

    if len(data.shape) != 1 or data.unit != 1 or not data.mean:
        return x
    return (x - torch.tensor(data.mean)) / torch.tensor(data.std)


def _answer(target: Tensor, data: Data) -> str:
    """A label's name, or of chances those that are likely; else numbers."""
    if data.classes and not target.is_floating_point() and target.dim() == 0:
        return label(int(target), data)
    if data.classes and target.dim() == 1 and len(target) == len(data.classes):
        likely = [(float(chance), i) for i, chance in enumerate(target) if chance > LIKELY]
        return ", ".join(f"{label(i, data)} {chance:.0%}" for chance, i in sorted(likely, reverse=True))
    return ", ".join(f"{value:.4g}" for value in target.reshape(-1)[:FEW].tolist())
