"""
Labels of a signal that are not aligned with it, as in speech.

Legend of the shape comments: B samples, T frames, K classes, S labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..batches import described
from ..errors import SpecError
from ..losses import IGNORED
from ..objectives import Criterion
from ..pictures import TRUTH, words
from .base import OwnLoss, Paired
from .criteria import Unaligned
from .seeing import inputs, spelled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..pictures import Picture


class CTC(Paired):
    """
    Labels in their order, wherever in the frames they are: connectionist temporal classification.

    The model gives scores (B, T, K), or a pair of them and the frames that count in each sample (B,), as it must where
    samples are of unequal length. Labels (B, S) are whole numbers other than `blank`; -100 is padding. The loss is that
    of torch's CTCLoss, by labels and then by samples; what has more labels than frames is left out. Source: A. Graves
    et al., Connectionist Temporal Classification, 2006. Metrics of texts compare the best path with the labels, whose
    names are joined where one of them is a space, so that words are told apart.

    Parameters
    ----------
    blank
        Number of the class that is no label.
    """

    plain = False
    answers = "texts"
    table_models = False

    def __init__(self, data: Data, loss: OwnLoss | None = None, *, blank: Annotated[int, Field(ge=0)] = 0) -> None:
        super().__init__(data, loss)
        if isinstance(data.train, tuple) and data.train[1].ndim != 2:
            raise SpecError(
                "task='ctc': needs several labels of each sample (N, S), as transforms=['strings'] makes of words, "
                f"and there is y of shape {tuple(data.train[1].shape)}; take task='classification' for one of each"
            )
        self.blank = blank

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs labels."""
        return "" if classes else "needs labels (N, S) as y, whole numbers, and these are none"

    def usual(self) -> OwnLoss:
        """CTC's loss."""
        return self.ctc

    def ctc(self, output: Any, target: Tensor, reduction: str = "mean") -> Tensor:
        """The mean loss of scores (B, T, K), or of them and the frames that count, and labels (B, S)."""
        import torch
        from torch.nn import functional

        scores, frames = output if isinstance(output, tuple) else (output, None)
        if frames is None:
            frames = torch.full((len(scores),), scores.shape[1], device=scores.device)
        if scores.dim() != 3:
            raise SpecError(
                f"task='ctc': the model gives {described(scores)}, and is to give scores (B, T, K) of each frame; of "
                "the table take model='speech_recogniser' with task='ctc'"
            )
        chances = scores.float().log_softmax(-1).transpose(0, 1)  # (T, B, K)
        count = (target != IGNORED).sum(1)
        return functional.ctc_loss(chances, target, frames, count, self.blank, reduction, zero_infinity=True)

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss; frames and labels can't be compared one by one."""
        return Heard(self, total)

    def each(self, scores: Any, targets: Tensor) -> Tensor:
        """The loss of each sample by its labels, (B,); NaN of a user's own."""
        if self.given is not None:
            return super().each(scores[0] if isinstance(scores, tuple) else scores, targets)
        return self.ctc(scores, targets, "none") / targets.ne(IGNORED).sum(1).clamp(min=1)

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """The blank, which is no label."""
        return super().reading(model) | {"blank": self.blank}

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The signal, its labels, and those that are read from the best path."""
        scores, frames = output if isinstance(output, tuple) else (output, None)
        (heard,) = self.decode(scores[:, : int(frames[0])] if frames is not None else scores, self.blank)
        right = heard == y[0][y[0] != IGNORED].tolist()
        shown = words(spelled(heard, self.data) or "nothing", right)
        return {
            **inputs(x[0] if isinstance(x, tuple) else x, self.data),
            TRUTH: words(spelled(y[0], self.data)),
            "heard": shown,
        }

    @staticmethod
    def decode(scores: Tensor, blank: int = 0) -> list[list[int]]:
        """The labels of each sample's scores (B, T, K), by the best class of each frame (greedy)."""
        decoded = []
        for best in scores.argmax(-1):
            runs = best.unique_consecutive().tolist()
            decoded.append([label for label in runs if label != blank])
        return decoded

    def texts(self, labels: list[list[int]]) -> list[Any]:
        """Labels as texts, where their names are characters with a space among them; else as they are."""
        names = self.data.classes
        if " " not in names:
            return labels
        return ["".join(names[label] for label in one) for one in labels]


class Heard(Unaligned):
    """CTC's loss, and what of the labels the best path of each sample says."""

    kind = "texts"

    def __init__(self, task: CTC, total: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(task.given or task.usual(), None, total, task.each)
        self._task = task

    def decoded(self, output: Any, target: Any) -> tuple[Any, Any]:
        """The labels of each sample's best path in the frames that count, and those that were to be."""
        scores, frames = output if isinstance(output, tuple) else (output, [output.shape[1]] * len(output))
        heard = [
            self._task.decode(one[None, : int(n)], self._task.blank)[0] for one, n in zip(scores, frames, strict=True)
        ]
        right = [[label for label in one if label != IGNORED] for one in target.tolist()]
        return self._task.texts(heard), self._task.texts(right)
