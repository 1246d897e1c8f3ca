"""Distill: a student learns from what the parent answers, not from the labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..answers import class_axis
from ..batches import MASK, call, computed, described
from ..errors import SpecError, unknown
from ..objectives import Criterion, Objective
from ..spec import Spec
from ..tables import keywords, table
from ..values import evenly
from .base import Compressor, Epochs, Knob, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn

    from ..batches import Batch


class Distill(Compressor):
    """
    Teaches a student, or the model as the chain made it, what the parent answers (Hinton and others, arXiv:1503.02531).

    The loss is alpha x T^2 x the divergence of the student's answers from the teacher's, both softened by the
    temperature T, and (1 - alpha) x the usual loss; without `labels` the teacher's answers are all there is, and the
    training data's labels are never looked at, so that there need not be any: `((x, None), val, test)`. Answers are
    probabilities of the classes; or of yes and no, each by itself, under nn.BCEWithLogitsLoss and the like; or else
    numbers, whose divergence is the squared error, without a temperature. Places of a sample that the usual loss, or
    the attention mask, leaves out, such as padding, don't count. With `depth` the student begins with so many of the
    model's own blocks, evenly spaced, as DistilBERT does (Sanh and others, arXiv:1910.01108, section 3). With
    `features`, student and teacher are to find the same samples of a batch alike, too: that needs all of them in one
    place, so world=1 and accumulate=1. With `stays` the parent goes on teaching in the links after it, such as the
    rounds of a mask.
    """

    knob = Knob("Distill: the parent teaches it")
    compares = True

    def __init__(
        self,
        *,
        student: str | dict[str, Any] = "",
        depth: Annotated[int, Field(ge=0)] = 0,
        temperature: Annotated[float, Field(gt=0)] = 4.0,
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.9,
        features: bool = False,
        labels: bool = True,
        stays: bool = False,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        # {"model": "mlp", "options": {"hidden": 16}}, the name of a model, or "" for the chain's own
        self.student = {"model": student} if isinstance(student, str) and student else student or {}
        self.depth = depth  # blocks of the model that stay; 0 is all of them
        self.temperature, self.features = temperature, features
        self.alpha, self.labels, self.stays = alpha if labels else 1.0, labels, stays

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """A student that nobody can make or that would throw away what came before; features of parts of a batch."""
        for name in ("world", "accumulate") if self.features else ():
            if (parts := getattr(spec, name)) > 1:
                return (
                    f"compress={{'distill': {{'features': True}}}}: compares all samples of a batch with each other, "
                    f"and {name}={parts} cuts it into parts; take {name}=1, or leave features out"
                )
        student = self.student
        link = f"compress={{'distill': {{'student': {student}}}}}"
        if not student:
            return ""
        if self.depth:
            return f"{link}: is a model of its own, and depth={self.depth} takes blocks of the parent's; leave one out"
        if before:
            return (
                f"{link}: a fresh student after {before[-1][0]!r} would throw that away; put distill first, or leave "
                "student out, so that the parent teaches what the chain made"
            )
        for name in student:
            if name not in ("model", "options"):
                return f"{link}: {unknown('field', name, ('model', 'options'))}"
        model = student.get("model", spec.model)
        if model not in (models := table("model")):
            return f"{link}: {unknown('model', model, models)}"
        choices: Any = student.get("options", {})
        if not isinstance(choices, dict):
            return f"{link}: options must be pairs of name and value"
        dataset = "digits" if spec.dataset.startswith("cell:") else spec.dataset
        try:
            Spec(dataset=dataset, epochs=spec.epochs, batch_size=spec.batch_size, model=model, options=choices)
        except SpecError as error:
            return f"{link}: {str(error).splitlines()[0]}"
        return ""

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """The student, fresh; or the module as it is, or with some of its blocks."""
        import torch

        if self.depth:
            shorten(model, self.depth)
        if not self.student:
            return model
        if isinstance(work.example, (dict, tuple)):
            raise SpecError(
                f"compress={{'distill': {{'student': {self.student}}}}}: models of the table take one tensor, and the "
                f"parent is called with {described(work.example)}; leave student out, so that the parent teaches what "
                "the chain made"
            )
        maker = table("model")[self.student.get("model", work.spec.model)]
        options = {name: value for name, value in self.student.get("options", {}).items() if name in keywords(maker)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(work.spec.seed)
            student = maker(work.shape, work.classes, work.vocabulary, **options)
        teaches, answers = (_scores(module, work.example) for module in (model, student))
        if answers != teaches:
            raise SpecError(
                f"compress={{'distill': {{'student': {self.student}}}}}: it answers {answers} numbers a sample, and "
                f"its teacher {teaches}; they must tell the same classes apart"
            )
        return student

    def objective(self, model: nn.Module, work: Work) -> Objective | None:
        """The teacher's answers, softened, beside the labels."""
        assert work.parent is not None
        teacher = work.parent().eval().requires_grad_(False)
        if work.device is not None:
            teacher = teacher.to(work.device)
        student, how = model if self.features else None, (self.temperature, self.alpha)
        return Taught(work.criterion, teacher, student, *how, work.classes, bool(work.vocabulary))


def shorten(model: nn.Module, depth: int) -> None:
    """Leave so many of a module's blocks, evenly spaced: of its longest row of modules of one kind."""
    from torch import nn

    rows = [m for m in model.modules() if isinstance(m, (nn.Sequential, nn.ModuleList)) and len({*map(type, m)}) == 1]
    blocks = max(rows, key=len, default=nn.ModuleList())
    if len(blocks) <= depth:
        has = f"has {len(blocks)} in a row; take less" if len(blocks) > 1 else "has no row of them; leave it out"
        raise SpecError(
            f"compress={{'distill': {{'depth': {depth}}}}}: is to be fewer blocks than the model has, and it {has}"
        )
    chosen = [blocks[place] for place in evenly(len(blocks), depth)]
    del blocks[:]
    blocks.extend(chosen)


@dataclass(eq=False)
class Taught(Objective):
    """The loss of a student that a teacher teaches."""

    loss: Criterion
    """Of labels."""
    teacher: nn.Module
    student: nn.Module | None
    """The module whose features are to be like the teacher's, or None."""
    temperature: float
    alpha: float
    """Weight of what the teacher says; at 1 targets are not looked at."""
    classes: int = 0
    """How many the data have: whether outputs score classes, if targets can't tell."""
    tokens: bool = False
    """Whether the data are texts."""

    def __post_init__(self) -> None:
        modules = (self.teacher, self.student) if self.student is not None else ()
        self.features = [_last_inputs(module) for module in modules]

    def over(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Each micro-batch, seen by the loss of labels too."""
        return super().over(self.loss.over(batches))

    @property
    def criterion(self) -> Criterion:
        """The loss of labels."""
        return self.loss

    def __call__(self, output: Any, target: Any) -> Tensor:
        """What the student gave and targets -> mean (scalar)."""
        import torch

        with torch.no_grad():
            lesson = self.loss.scores(call(self.teacher, self.batch.x))
        answers = self.loss.scores(output)
        if not isinstance(answers, torch.Tensor):
            raise SpecError(
                f"compress='distill': answers are {described(answers)}, and those of teacher and student are compared "
                "as one tensor; leave the link out, or have the task's `scores` give a tensor"
            )
        if lesson.shape != answers.shape:
            raise SpecError(
                f"compress='distill': the teacher answers {tuple(lesson.shape[1:])} numbers a sample, the student "
                f"{tuple(answers.shape[1:])}; they must tell the same classes apart"
            )
        pair = self.loss.compared(output, target)
        value = self._divergence(answers, lesson, pair[1] if pair else None)
        if self.alpha < 1:
            value = self.alpha * value + (1 - self.alpha) * self.loss(output, target)
            if self.loss.told:
                raise SpecError(
                    "compress='distill': the loss gives a sum and its weight, which is not to be weighed against the "
                    "teacher's answers; take {'alpha': 1.0}, or train with a loss that gives a mean"
                )
        if self.features:
            from .layers import similarity

            theirs, ours = (similarity(features().float()) for features in self.features)
            value = value + (theirs - ours).square().sum() / len(answers)
        return value

    def _divergence(self, output: Tensor, lesson: Tensor, target: Tensor | None) -> Tensor:
        """How far the student's answers are from the teacher's."""
        from torch.nn import functional

        T = self.temperature
        if self.loss.yes_or_no:
            ours, theirs = output.float() / T, lesson.float() / T
            least = functional.binary_cross_entropy_with_logits(theirs, theirs.sigmoid())
            return T * T * (functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid()) - least)
        tokens, shape = self.tokens, None
        if target is not None and (self.alpha < 1 or not self.classes):
            shape = None if target.is_floating_point() else target.shape
            tokens = tokens or self.loss.last(target)
        axis = class_axis(output.shape, shape, classes=self.classes, tokens=tokens)
        if axis is None:
            return (output - lesson).square().mean()
        ours, theirs = (functional.log_softmax(part.float().movedim(axis, -1) / T, -1) for part in (output, lesson))
        return T * T * self._mean(functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1), target)

    def _mean(self, each: Tensor, target: Tensor | None) -> Tensor:
        """The mean of what each sample, or place in it, adds (B, ...), less places of padding and the like."""
        shape, mask = each.shape, self.batch.x.get(MASK) if isinstance(self.batch.x, dict) else None
        if each.dim() > 1 and target is not None and target.shape == shape and not target.is_floating_point():
            counted, count = target.ne(self.loss.ignored), self.loss.count(target)
        elif each.dim() > 1 and mask is not None and mask.shape == shape:
            counted, count = mask.bool(), None
        else:
            return each.mean()
        return each.where(counted, 0).sum() / (counted.sum().clamp(min=1) if count is None else count)


def _scores(model: nn.Module, example: Tensor) -> tuple[int, ...]:
    """Shape of what a module answers to one sample."""
    import torch

    with torch.no_grad():
        return tuple(computed(model.eval(), example)[0].shape[1:])


def _last_inputs(module: nn.Module) -> Callable[[], Tensor]:
    """
    What goes into a module's last layer: its features.

    Teacher and student may have features of different size: it is compared which samples they find alike (Tung and
    Mori, Similarity-Preserving Knowledge Distillation, arXiv:1907.09682).
    """
    from .layers import weighted

    features: list[Tensor] = []
    *_, (_, last) = weighted(module)
    last.register_forward_pre_hook(lambda _, inputs: features.__setitem__(slice(None), [inputs[0]]))
    return lambda: features[0]
