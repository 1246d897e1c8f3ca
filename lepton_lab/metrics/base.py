"""What a metric says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from ..batches import Batch
    from ..datasets import Data
    from ..objectives import Criterion


WORDS = ("title", "short", "axis")
LOOK = (*WORDS, "form", "higher", "highest")
"""What views ask of a metric: what a user's own may say of itself, and what of it is kept in a run's folder."""


class Metric:
    """
    A figure of how well a model answers: what is summed over batches and ranks, and what finishes the sums.

    One that needs the answers themselves (areas under curves, a function of your own) sets `gathers`: what `update`
    then gives of each sample is put together in the order of the split, whatever the ranks, before `finish` sees it.

    Legend of the shape comments: B samples, S sums, R rows (of W numbers each).

    Parameters
    ----------
    data
        The splits.
    criterion
        What training minimises, by which targets count.
    """

    title = ""
    """What it is called above a chart and in tables."""
    short = ""
    """The same where room is scarce."""
    axis = ""
    """Label of its axis, with the unit."""
    form = ".4g"
    """How a figure of it is printed."""
    higher = True
    """Whether more is better."""
    highest: float | None = None
    """The best that can be, where a chart's axis ends."""
    digits = 6
    """Significant digits in a step's row."""
    splits: tuple[str, ...] = ("train", "val", "test")
    """Those that it is found for."""
    training = False
    """Whether each training step reports it, by `share`."""
    curve = True
    """Whether a figure is one number; else it is a table."""
    shown = True
    """Whether views show it unasked; else it is in the rows alone."""
    usual = False
    """Whether it is counted unasked, where it has a meaning."""
    free = False
    """Whether it compares what a model writes by itself, where the task has it write (`Task.writes`)."""
    sets = False
    """Whether it compares samples that a model makes by itself with real ones, where the task has it (`Task.makes`)."""
    gathers = False
    """Whether `update` gives what each sample adds, which is gathered, and not sums."""
    alone = False
    """Whether its figure of one sample alone, of rows (R, W), tells how well that was answered."""
    doubt = ""
    """A sentence on its figures, where what was counted makes them say little; told once."""
    telling: tuple[str, ...] = ()
    """Which answers, names of KINDS, it tells most of, where a task names no other."""
    wide = False
    """Whether it is of several numbers a sample, such as a signal's."""
    kinds: tuple[str, ...] = ()
    """Which answers it is of, names of KINDS; () of any."""

    def __init__(self, data: Data, criterion: Criterion) -> None:
        self.data, self.criterion = data, criterion

    @classmethod
    def of(cls, data: Data, criterion: Criterion, **options: Any) -> Metric | None:
        """The metric, where it has a meaning for the data and what is minimised."""
        return None if cls.kinds and kind(data, criterion) not in ("", *cls.kinds) else cls(data, criterion, **options)

    def update(self, output: Any, target: Any) -> Any:
        """
        What a batch adds: outputs (B, ...) and targets (B, ...) -> sums (S,) in float64, on their device.

        Of one that `gathers`: what each sample adds, (B, W), (B, R, W), or for each of the B a tensor (R, W), where R
        may differ. None where outputs like these have no such figure. Called in evaluations; must not wait for the
        device.
        """
        return None

    def add(self, output: Any, batch: Batch) -> Any:
        """As `update`, of what the model gave for a batch, whatever its form."""
        pair = self.criterion.compared(output, batch.y)
        return None if pair is None else self.update(*pair)

    def finish(self, sums: Tensor) -> Any:
        """The figure, of the sums (S,) over all batches and ranks, or of all rows (R, W) in the order of samples."""
        raise NotImplementedError

    def over(self, answers: Iterable[tuple[Any, Any]]) -> Any:
        """The figure of outputs (B, ...) and targets (B, ...), batch by batch; None where outputs have none."""
        import torch

        added = [self.update(output, target) for output, target in answers]
        if not added or any(one is None for one in added):
            return None
        return self.finish(torch.cat([flat(one)[0] for one in added]) if self.gathers else sum(added))

    def share(self, output: Tensor, target: Tensor) -> Tensor | None:
        """
        What a micro-batch of training adds, as one number: the figure times its samples.

        None where outputs like these have no such figure. It must not wait for the device.
        """
        raise NotImplementedError

    def follow(self, split: str, figures: dict[str, Any]) -> Any:
        """The figure of a split where it follows from others, and nothing of its own is counted; else None."""
        return None

    @classmethod
    def word(cls) -> str:
        """The title within a sentence."""
        return cls.title[:1].lower() + cls.title[1:] if cls.title[1:2].islower() else cls.title

    @classmethod
    def unit(cls) -> str:
        """ "%" of a fraction that is printed so, else ""."""
        return "%" if cls.form.endswith("%") else ""

    @classmethod
    def text(cls, figure: float) -> str:
        """A figure as people read it."""
        return f"{figure:{cls.form}}"


KINDS = {
    "classes": "scores of classes",
    "tokens": "scores of tokens",
    "labels": "a yes or no for each label",
    "numbers": "numbers",
    "noise": "the noise in samples",
    "samples": "samples of a model's own making",
    "chances": "scores of classes beside chances of each",
    "texts": "texts",
    "boxes": "boxes",
}
"""What answers can be, in words."""


def kind(data: Data, criterion: Criterion) -> str:
    """What the answers to some data are, a name of KINDS; "" where only a loss of the user's own knows."""
    from torch import nn

    from ..losses import squared_error, terms

    loss: Any = criterion.loss
    if criterion.kind:
        return criterion.kind
    if criterion.yes_or_no:
        return "labels"
    if loss is squared_error or isinstance(loss, (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)):
        return "numbers"
    if (known := terms(loss)) is None:
        return ""
    if not data.classes:  # targets are chances, or nobody knows what
        return "" if known.summed else "chances"
    return "tokens" if data.vocabulary == len(data.classes) else "classes"


def flat(added: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What samples add, as rows (R, W) one below the other; and how many of them each sample has, (B,)."""
    import torch

    if isinstance(added, torch.Tensor):
        each = added.shape[1] if added.dim() > 2 else 1
        return added.flatten(0, max(added.dim() - 2, 0)), torch.full((len(added),), each)
    return torch.cat(list(added)), torch.tensor([len(rows) for rows in added])


def described(name: str, about: Mapping[str, Any]) -> type[Metric]:
    """A metric of which only LOOK is known, as views ask for it."""
    look = {key: about[key] for key in LOOK if key in about}
    words = name.replace("_", " ")
    return type(name, (Metric,), {"title": words, "short": words, "axis": words} | look)
