"""
What scores say in the terms of the task that a model was trained for: labels with probabilities, boxes, texts, numbers.

A member of TERMS is given a `Sheet` and returns what is told of a batch, by name; `PREDICTED` says which of these are
what `predict` gives. Legend of the shape comments: B samples, K classes, T tokens, N objects of one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..answers import class_axis, named
from ..batches import MASK, leaves
from ..spelling import of as spelling_of
from ..spelling import spelled

if TYPE_CHECKING:
    import numpy as np


NEXT = 5  # tokens that may come next, which are told with their probabilities
PREDICTED = ("detections", "text", "labels")
"""What a prediction is, the first of these that there is; else the scores."""


@dataclass(frozen=True)
class Sheet:
    """Scores of a batch, and what their file says of them."""

    scores: Any
    manifest: Mapping[str, Any]
    batch: Any = None
    """What the model was given, where that is known."""

    @property
    def task(self) -> str:
        """Its name; "" of none."""
        return str(self.manifest.get("task", {}).get("name", ""))

    @property
    def labels(self) -> list[str]:
        """Of classes, by number."""
        return list(self.manifest["labels"])

    @property
    def texts(self) -> bool:
        """Whether samples are tokens."""
        return self.manifest["input"]["dtype"] == "int64"

    @property
    def shape(self) -> list[int]:
        """Of a sample's scores, where they are one tensor."""
        return [size or 0 for size in self.manifest["output"]["shape"]]

    def asked(self, name: str, usual: Any = None) -> Any:
        """What the task says of itself: told with the model, or as an option at the launch."""
        options = self.manifest.get("task", {}).get("options", {})
        return self.manifest.get("answer", {}).get(name, options.get(name, usual))

    def label(self, number: int) -> str:
        """A class's name."""
        return str(self.labels[number]) if 0 <= number < len(self.labels) else str(number)

    def text(self, tokens: Sequence[Any]) -> str:
        """Tokens as they are spelled."""
        return spelled(tokens, *spelling_of(self.asked("text"), self.labels, str(self.manifest["tokens"])))


def answered(scores: Any, manifest: Mapping[str, Any], batch: Any = None) -> dict[str, Any]:
    """What is told of scores (B, ...), by name: them, and what they say in the task's terms."""
    sheet = Sheet(scores, manifest, batch)
    if isinstance(scores, (list, dict)) and sheet.task not in SEVERAL:
        return {"scores": scores}
    return {"scores": scores, **TERMS.get(sheet.task, _classes)(sheet)}


def predictions(scores: Any, manifest: Mapping[str, Any], batch: Any = None, alone: bool = False) -> Any:
    """
    Of a batch of scores what `predict` gives, or of its one sample that came `alone`.

    A list of labels, of boxes or of texts, or by name where there are several outputs; scores where there is no such.
    """
    answers = answered(scores, manifest, batch)
    predicted = next((answers[name] for name in PREDICTED if name in answers), scores)
    if not alone:
        return predicted
    return {name: part[0] for name, part in predicted.items()} if isinstance(predicted, dict) else predicted[0]


def plain(told: Any) -> Any:
    """Answers as JSON takes them: numbers in the digits that float32 has, and none of those that are no number."""
    import numpy as np

    if isinstance(told, dict):
        return {name: plain(value) for name, value in told.items()}
    if isinstance(told, list) or (isinstance(told, np.ndarray) and told.ndim):
        return [plain(value) for value in told]
    if isinstance(told, (float, np.floating)) or getattr(told, "dtype", None) == np.float32:
        return float(f"{told:.7g}") if np.isfinite(told) else None
    return told.item() if isinstance(told, (np.generic, np.ndarray)) else told


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Of scores (..., K) those of each class."""
    import numpy as np

    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def _classes(sheet: Sheet) -> dict[str, Any]:
    """The label of the highest score of each sample, or of each place in it; and how likely each label is."""
    if not sheet.labels:
        return {}
    answers: dict[str, Any] = {"labels": named(sheet.scores, sheet.labels, sheet.shape, tokens=sheet.texts)}
    if sheet.scores.ndim == 2 and sheet.task in ("classification", "keywords"):
        answers["probabilities"] = probabilities(sheet.scores)
    return answers


def _several(sheet: Sheet) -> dict[str, Any]:
    """Of each sample the labels whose probability is above one half."""
    import numpy as np

    if sheet.scores.ndim != 2:
        return {}
    names = [sheet.label(i) for i in range(sheet.scores.shape[1])]
    labels = [[name for name, score in zip(names, row, strict=True) if score > 0] for row in sheet.scores]
    return {"labels": labels, "probabilities": 1 / (1 + np.exp(-sheet.scores.clip(-80, 80)))}


def _pixels(sheet: Sheet) -> dict[str, Any]:
    """The label of each place of a sample, along the axis that the task says."""
    import numpy as np

    axis = {"first": 1, "last": sheet.scores.ndim - 1}.get(sheet.asked("class_axis"))
    if axis is None or not sheet.labels:
        return _classes(sheet)
    best = sheet.scores.argmax(axis)
    names = np.asarray([sheet.label(i) for i in range(sheet.scores.shape[axis])], dtype=object)
    return {"labels": names[best].tolist()}


def _following(sheet: Sheet) -> dict[str, Any]:
    """The tokens that are most likely to come after each text, with their probabilities."""
    if sheet.scores.ndim != 3:
        return _classes(sheet)
    chances = probabilities(_last(sheet))
    best = (-chances).argsort(-1)[:, :NEXT]
    likely = [
        [{"token": sheet.text([k]), "probability": float(chance[k])} for k in row]
        for row, chance in zip(best.tolist(), chances, strict=True)
    ]
    return {**_classes(sheet), "next": likely}


def _by_head(sheet: Sheet) -> dict[str, Any]:
    """What the head of a model that is called by keywords says: texts, several labels, next tokens, or labels."""
    if sheet.asked("head") == "ctc":
        return _heard(sheet) if sheet.labels or sheet.asked("text") else {}
    if sheet.asked("head") == "multilabel":
        return _several(sheet)
    if sheet.asked("shift"):
        return _following(sheet)
    answers, mask = _classes(sheet), _mask(sheet)
    if mask is None or "labels" not in answers or mask.shape != sheet.scores.shape[:-1]:
        return answers
    rows = zip(answers["labels"], mask.tolist(), strict=True)
    return {**answers, "labels": [[label for label, counts in zip(*row, strict=True) if counts] for row in rows]}


def _mask(sheet: Sheet) -> Any:
    """Which places of a batch are no padding, (B, T), where it tells."""
    import numpy as np

    mask = sheet.batch.get(MASK) if isinstance(sheet.batch, dict) else None
    return None if mask is None else np.asarray(mask, bool)


def _last(sheet: Sheet) -> np.ndarray:
    """The scores (B, K) of each text's last token, which a mask may tell."""
    import numpy as np

    if (mask := _mask(sheet)) is None:
        return sheet.scores[:, -1]
    places = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
    return sheet.scores[np.arange(len(places)), places]


def _filled(sheet: Sheet) -> dict[str, Any]:
    """The texts, with what is most likely in the place of each mask."""
    import numpy as np

    answers, mask = _classes(sheet), sheet.asked("mask", sheet.asked("mask_token", 0))
    if sheet.scores.ndim != 3 or not isinstance(sheet.batch, np.ndarray):
        return answers
    tokens = np.where(sheet.batch == mask, sheet.scores.argmax(-1), sheet.batch)
    return {**answers, "filled": [sheet.text(row) for row in tokens]}


def _heard(sheet: Sheet) -> dict[str, Any]:
    """The labels of the best path in the frames that count, without the blank and what is said twice (greedy)."""
    import numpy as np

    scores, *frames = leaves(sheet.scores)
    if scores.ndim != 3:
        return {}
    if not frames and (mask := _mask(sheet)) is not None:  # of sounds, whose frames are as many in proportion
        frames = [np.ceil(mask.mean(1) * scores.shape[1]).astype(int)]
    blank, texts = sheet.asked("blank", 0), []
    for i, best in enumerate(scores.argmax(-1)):
        path = best[: int(frames[0][i])] if frames else best
        labels = path[np.flatnonzero(np.diff(path, prepend=-1))]
        texts.append(sheet.text(labels[labels != blank]))
    return {"text": texts}


def _written(sheet: Sheet) -> dict[str, Any]:
    """What was written, where that is among the scores; else what is most likely at each place."""
    import numpy as np

    if not isinstance(sheet.scores, list):
        return _classes(sheet)
    end = sheet.asked("end")
    rows = [row[: int(np.append(row == end, True).argmax())] for row in sheet.scores]
    words = sheet.asked("words")  # where a target's are others than a source's
    return {"text": [spelled(row, words) if words else sheet.text(row) for row in rows]}


def _marked(sheet: Sheet) -> dict[str, Any]:
    """The answer of each text, from the likeliest first to the likeliest last token that is not before it."""
    import numpy as np

    if sheet.scores.ndim != 3 or not isinstance(sheet.batch, np.ndarray):
        return {}
    chances = probabilities(sheet.scores.swapaxes(1, 2))  # (B, 2, T)
    both = np.triu(chances[:, 0, :, None] * chances[:, 1, None])  # (B, T, T)
    places = [np.unravel_index(chance.argmax(), chance.shape) for chance in both]
    texts = [sheet.text(row[first : last + 1]) for row, (first, last) in zip(sheet.batch, places, strict=True)]
    return {"text": texts}


def _boxes(sheet: Sheet) -> dict[str, Any]:
    """The objects of each picture, the surest first: label, score and box as x1, y1, x2, y2."""
    if not isinstance(sheet.scores, list) or not all("boxes" in boxes for boxes in sheet.scores):
        return {}
    return {"detections": [_objects(sheet, boxes) for boxes in sheet.scores]}


def _objects(sheet: Sheet, boxes: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    scores, labels = boxes.get("scores"), boxes.get("labels")
    order = range(len(boxes["boxes"])) if scores is None else (-scores).argsort(kind="stable").tolist()
    objects = []
    for i in order:
        label = {} if labels is None else {"label": sheet.label(int(labels[i]))}
        score = {} if scores is None else {"score": _digits(scores[i])}
        objects.append({**label, **score, "box": [_digits(corner) for corner in boxes["boxes"][i]]})
    return objects


def _digits(value: Any) -> float:
    """A number in the digits that float32 has."""
    return float(f"{value:.7g}")


def _targets(sheet: Sheet) -> dict[str, Any]:
    """Of each target labels and probabilities, or numbers."""
    kinds = sheet.asked("targets", {})
    if not isinstance(sheet.scores, dict):
        return {}
    answers: dict[str, dict[str, Any]] = {}
    for name, scores in sheet.scores.items():
        if kinds.get(name) == "numbers":
            answers.setdefault("values", {})[name] = scores
        elif (axis := class_axis(scores.shape, classes=scores.shape[1] if scores.ndim > 1 else 0)) is not None:
            answers.setdefault("labels", {})[name] = scores.argmax(axis).astype(str).tolist()
            if scores.ndim == 2:
                answers.setdefault("probabilities", {})[name] = probabilities(scores)
    return answers


def _restored(sheet: Sheet) -> dict[str, Any]:
    """Samples without their noise, of pixels from 0 to 1."""
    import numpy as np

    scaling = sheet.manifest["preprocessing"]
    if "mean" not in scaling or sheet.scores.ndim < 3:
        return {"restored": sheet.scores}
    channels = -1, *[1] * (sheet.scores.ndim - 2)
    mean, std = (np.asarray(scaling[part], np.float32).reshape(channels) for part in ("mean", "std"))
    return {"restored": (sheet.scores * std + mean).clip(0, 1)}


def _called(name: str) -> Callable[[Sheet], dict[str, Any]]:
    """Outputs that need no reading, under a name of their own."""
    return lambda sheet: {name: sheet.scores}


TERMS: dict[str, Callable[[Sheet], dict[str, Any]]] = {
    "segmentation": _pixels,
    "multilabel": _several,
    "regression": _called("values"),
    "language_model": _following,
    "masked_language_model": _filled,
    "sequence_to_sequence": _written,
    "question_answering": _marked,
    "ctc": _heard,
    "denoising": _restored,
    "diffusion": _called("noise"),
    "contrastive": _called("embeddings"),
    "detection": _boxes,
    "multitask": _targets,
    "keywords": _by_head,
}
"""By the task's name; labels, where there are any, of all others."""
SEVERAL = ("ctc", "detection", "multitask", "sequence_to_sequence")
"""Those that read several outputs."""
