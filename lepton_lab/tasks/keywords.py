"""Samples that are dicts, of which the model is called with what it asks for by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batches import MASK, TEXTS, described, tensors
from ..errors import SpecError
from ..losses import IGNORED, exact
from ..spelling import letters
from ..values import called
from .base import OwnLoss, Task
from .seeing import LABELS, SPAN, inputs
from .spans import QuestionAnswering

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..objectives import Criterion
    from ..pictures import Picture

SHIFTS = ("loss_function(", "[..., :-1", "[:, :-1")
"""In the code of a forward pass that compares scores with the label of the next place."""
CAUSAL = ("ForCausalLM", "LMHead", "DoubleHeads", "ForConditionalGeneration")
"""In the names of Hugging Face's classes whose loss is that of the next token, if they are no encoder and decoder."""
TOKENS = (*CAUSAL, "ForMaskedLM", "Seq2SeqLM")
"""In the names of those whose loss is the mean cross entropy of tokens."""

DECODED = "decoder_input_ids"
"""What Hugging Face's models call the tokens before those that a decoder is to predict."""


class Keywords(Task):
    """
    The model is called with a sample's names, `model(**batch)`, and gives its own loss, as Hugging Face's do.

    `outputs["loss"]` is taken to be the mean over the labels that are not ignored (-100, or what the model's config
    says), or over samples where there is one label a sample, and under CTC, of which the config may ask for the sum.
    `outputs["logits"]` are compared with the labels; of samples with `start_positions` and `end_positions`, the places
    of an answer among the tokens, `start_logits` and `end_logits` are with those. With a loss of the user's own,
    `loss(outputs, batch)`, the model is called with those names alone that it asks for.
    """

    table_models = table_data = False
    output = "logits"

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        super().__init__(data, loss)
        if not isinstance(data.example, Mapping):
            batches = "pairs" if data.example is None else described(data.example)
            raise SpecError(f"task='keywords': samples must be dicts, and batches are {batches}; take task='auto'")
        self._names: list[str] | None = None  # that the model asks for; None where it takes any
        self._reduction = ""  # of a loss of CTC: "mean" or "sum", over samples
        self._shift = False  # whether the scores of a place are for the label of the next one
        self._begins: dict[str, int] = {}  # of a decoder: what its tokens begin with, and what pads them
        self._head = ""  # "ctc" or "multilabel" where answers are read so
        self._squares = False  # whether the model's own loss is the squared error
        self._spans = {*SPAN} <= {*data.example}
        if self._spans:
            self.metrics, self.answers = QuestionAnswering.metrics, QuestionAnswering.answers

    def setup(self, model: nn.Module) -> None:
        """Names that the model takes, held against those of a batch; and whether it predicts the next token."""
        asked = inspect.signature(model.forward).parameters.values()
        self._names = None if any(p.kind is p.VAR_KEYWORD for p in asked) else [p.name for p in asked]
        kind, config = type(model).__name__, getattr(model, "config", None)
        self.ignored = IGNORED if self.given else getattr(config, "semantic_loss_ignore_index", IGNORED)
        if self.given is None and "CTC" in kind:
            self._reduction = getattr(config, "ctc_loss_reduction", "")
        self._shift = _next(model, kind) and not getattr(config, "is_encoder_decoder", False)
        if self.given is None and any(part in kind for part in TOKENS):
            self.answers = "tokens"
        start, pad = (getattr(config, f"{what}_token_id", None) for what in ("decoder_start", "pad"))
        if getattr(config, "is_encoder_decoder", False) and start is not None and DECODED in (p.name for p in asked):
            self._begins = {"start": int(start), "pad": int(pad or 0)}
        self._head = "ctc" if "CTC" in kind else "multilabel" if self._several(config) else ""
        self._squares = not self._head and getattr(config, "num_labels", 0) == 1
        batch = [*self.data.example]
        needed = [p.name for p in asked if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        missing = [name for name in needed if name not in batch]
        extra = [name for name in batch if self._names is not None and name not in {*self._names, MASK}]
        if missing or (extra and self.given is None):
            what = f"does not get {', '.join(missing)}" if missing else f"does not take {', '.join(extra)}"
            remedy = "rename or drop keys of the samples" + (", or give loss=f(outputs, batch)" if extra else "")
            raise SpecError(
                f"model={called(model)} takes {', '.join(p.name for p in asked)} and {what}: samples have "
                f"{', '.join(batch)}; {remedy}"
            )
        named = [p.name for p in asked if p.kind is not p.VAR_KEYWORD and p.name not in (*LABELS, *SPAN)]
        if named and not any(name in batch for name in named):  # where any name is taken, as Hugging Face's models do
            texts = [name for name, value in self.data.example.items() if not tensors(value)]
            remedy = f"tokenize {', '.join(texts)}, as tokenizer(text) does" if texts else "rename keys of the samples"
            raise SpecError(
                f"model={called(model)} takes {', '.join(named)}, and samples have {', '.join(batch)}; {remedy}"
            )

    def inputs(self, batch: Any) -> Any:
        """What the model asks for; a mask that `Pad` made is left out where the model takes none."""
        return batch if self._names is None else {name: value for name, value in batch.items() if name in self._names}

    def question(self, batch: Any) -> Any:
        """What the model asks for, without labels: a decoder gets the tokens before each, as training makes them."""
        asked = {name: value for name, value in self.inputs(batch).items() if name not in (*LABELS, *SPAN)}
        labels = self._labels(batch)
        if self._begins and labels is not None and DECODED not in asked:
            before = labels.roll(1, 1)
            before[:, 0] = self._begins["start"]
            asked[DECODED] = before.where(before != IGNORED, self._begins["pad"])
        return asked

    def labels(self, model: nn.Module) -> list[str]:
        """What the model's config calls its labels, of a sample or of a place in it; else their numbers."""
        labels = None if self._spans else self._labels(self.data.example)
        if labels is None or self.answers == "tokens" or (labels.is_floating_point() and self._head != "multilabel"):
            return []
        if self._head == "ctc":
            return self.data.classes
        names = getattr(getattr(model, "config", None), "id2label", None) or {}
        return [str(name) for name in names.values()] or self.data.classes or (["0", "1"] if labels.dim() == 1 else [])

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """Whether the scores of a place are for the next one's label, the label that is none, and how to read them."""
        shift = {"shift": True} if self._shift else {}
        ignored = {"ignored": self.ignored} if self.ignored != IGNORED else {}
        head: dict[str, Any] = {"head": self._head} if self._head else {}
        if self._head == "ctc":
            head |= {"blank": int(getattr(getattr(model, "config", None), "pad_token_id", None) or 0)}
            head |= letters(self.data.collate)
        return super().reading(model) | self._begins | shift | ignored | head

    def recall(self, reading: Mapping[str, Any], names: Sequence[str]) -> None:
        """Names that the file takes, and what is known of its labels."""
        self._names, self._shift = [*names], bool(reading.get("shift"))
        if DECODED in names and "start" in reading:
            self._begins = {"start": int(reading["start"]), "pad": int(reading.get("pad", 0))}
        self.ignored = int(reading.get("ignored", IGNORED))
        self.answers = "tokens" if self._shift else self.answers

    def loss(self, outputs: Any, batch: Any) -> Any:
        """The user's, or the model's own."""
        if self.given is not None:
            return self.given(outputs, batch)
        value = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if value is None:
            raise SpecError(
                "the model gives no loss of its own: it needs labels among the samples' names "
                f"({', '.join(batch)}), or give loss=f(outputs, batch)"
            )
        weight = self._count(batch).to(value.dtype)
        if self._reduction == "sum":
            return value, weight
        # The mean over no label at all is NaN; such a part of a batch adds nothing.
        return value.where(weight > 0, 0.0) * weight, weight

    def weight(self, batch: Any) -> Tensor | None:
        """Labels that are not ignored, or samples where each has one label; not known of a user's loss."""
        return None if self.given is not None else self._count(batch)

    @property
    def weighs(self) -> bool:
        """Of the model's own loss."""
        return self.given is None

    def _several(self, config: Any) -> bool:
        """Whether each of a model's scores is for a yes or no of its own, as its config or the labels say."""
        kind, labels = getattr(config, "problem_type", None), self._labels(self.data.example)
        if self.given is not None or labels is None or config is None or not labels.is_floating_point():
            return False
        return kind == "multi_label_classification" or (kind is None and labels.dim() == 2 and labels.shape[1] > 1)

    def _count(self, batch: Any) -> Tensor:
        labels = self._labels(batch)
        if labels is None or labels.is_floating_point() or self._reduction:
            first = tensors(batch)[0]
            return exact(len(first), first)
        return labels.ne(self.ignored).sum().double()

    def scores(self, outputs: Any) -> Any:
        """The model's logits; of an answer in a text those of its first and its last place, (B, T, 2)."""
        import torch

        if hasattr(outputs, "argmax"):
            return outputs
        get = outputs.get if isinstance(outputs, Mapping) else partial(getattr, outputs)
        if self._spans:
            ends = get("start_logits", None), get("end_logits", None)  # (B, T) each
            return None if ends[0] is None or ends[1] is None else torch.stack(ends, -1)
        logits = get("logits", None)
        return logits[:, :-1] if self._shift and logits is not None else logits

    def targets(self, batch: Any) -> Any:
        """The samples' labels; of an answer in a text its first and its last place, (B, 2)."""
        return self._labels(batch)

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """As of every task; of the places in a text classes come first."""
        criterion = super().criterion(total)
        criterion.axis = "first" if self._spans else ""
        return criterion

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """As of every task; of a text that is asked, the answer and the one that was found."""
        scores = self.scores(output)
        if not self._spans or scores is None or TEXTS not in y:
            return super().picture(x, y, output)
        return {**inputs(y, self.data), **QuestionAnswering.answer(y[TEXTS][0], self.targets(y)[0], scores, self.data)}

    def each(self, scores: Tensor, targets: Tensor) -> Tensor:
        """What the models' own loss is a mean of: cross entropy of labels, of a sample's that count, or of numbers."""
        from torch.nn import functional

        if self.given is not None or self._head == "ctc" or not hasattr(scores, "dim"):
            return super().each(scores, targets)
        if targets.is_floating_point() and scores.numel() == targets.numel() and (self._squares or self._head):
            loss = functional.mse_loss if self._squares else functional.binary_cross_entropy_with_logits
            return loss(scores.reshape(targets.shape), targets, reduction="none").reshape(len(targets), -1).mean(1)
        if self._spans:
            scores = scores.transpose(1, 2)  # (B, 2, T)
        if targets.is_floating_point() or scores.shape[:-1] != targets.shape:
            return super().each(scores, targets)
        losses = functional.cross_entropy(
            scores.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=self.ignored
        )
        counted = (targets != self.ignored).reshape(len(targets), -1).sum(1)
        return losses.reshape(len(targets), -1).sum(1) / counted  # NaN where none counts

    def _labels(self, batch: Any) -> Any:
        if self._spans:
            return _places(batch)
        labels = next((batch[name] for name in LABELS if name in batch), None)
        return labels[:, 1:] if self._shift and labels is not None else labels


def _places(batch: Any) -> Tensor:
    """First and last place of each answer, (B, 2), as Hugging Face's losses take them: none is one past the tokens."""
    import torch

    length = max(leaf.shape[1] for leaf in tensors(batch) if leaf.dim() > 1)
    places = torch.stack([batch[name].reshape(-1) for name in SPAN], -1).clamp(min=0)
    return places.masked_fill(places >= length, IGNORED)


def _next(model: nn.Module, kind: str) -> bool:
    """Whether a model's own loss is that of the next token; some of these names compare each place with its own."""
    if not any(part in kind for part in CAUSAL):
        return False
    try:
        source = inspect.getsource(type(model).forward)
    except (OSError, TypeError):
        return True
    return any(shift in source for shift in SHIFTS)
