"""What a model's scores are worth over all thresholds, drawn of what it said of each sample in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import LabError
from ..store.naming import labels
from ..store.tracks import Curve
from .drawing import Chart, Nothing
from .lines import Line, Lines

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..run.predictions import Predictions

BINS = 10
Points = tuple[np.ndarray, np.ndarray, str]
"""x and y, ascending in x, and what they come to in words."""


def roc(runs: list[Run]) -> Chart:
    """Right alarms against false ones."""
    return _drawn(runs, "ROC", "false positives (fraction of no)", "true positives (fraction of yes)", _rates)


def precision_recall(runs: list[Run]) -> Chart:
    """How many of what is taken for yes are, against how many are found."""
    return _drawn(runs, "Precision and recall", "recall (fraction)", "precision (fraction)", _found)


def calibration(runs: list[Run]) -> Chart:
    """Accuracy by confidence, beside the line where both are equal."""
    chart = _drawn(runs, "Calibration", "confidence (fraction)", "accuracy (fraction)", _confidence)
    if not isinstance(chart, Lines):
        return chart
    equal = Line("as sure as right", Curve([0.0, 1.0], [0.0, 1.0]), len(chart.lines), strong=False, points=False)
    return Lines(chart.title, chart.text, chart.y, (*chart.lines, equal), x=chart.x, lowest=0.0, highest=1.0)


def _drawn(runs: list[Run], title: str, x: str, y: str, points: Callable[[Predictions], Points | None]) -> Chart:
    """A curve for each run that has predictions of classes, or of labels that are yes or no."""
    lines, words, why = [], [], ""
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        try:
            curve = points(run.predictions())
        except LabError as error:
            why = str(error)
            continue
        if curve is None:
            why = f"{label}: its outputs are no scores of classes"
            continue
        lines.append(Line(label, Curve(curve[0].tolist(), curve[1].tolist()), i, points=points is _confidence))
        words.append(f"{label}: {curve[2]}")
    if not lines:
        return Nothing(title, f"{title}: {why}.")
    text = f"{title} on the test set. {'; '.join(words)}."
    head = f"{title}\n{words[0]}" if len(lines) == 1 else title
    return Lines(head, text, y, tuple(lines), x=x, lowest=0.0, highest=1.0)


def _chances(predictions: Predictions) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Probabilities of yes (R,), and whether it is (R,); None where outputs are no such scores.

    Of two classes, of the second; of more, each class against the rest, all together (micro-averaged).
    """
    scores, targets = predictions.scores.astype(np.float64), predictions.targets
    if scores.ndim == 2 and targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer) and scores.shape[1] > 1:
        counted = (targets >= 0) & (targets < scores.shape[1])
        scores, targets = scores[counted], targets[counted]
        powers = np.exp(scores - scores.max(1, keepdims=True))
        chances, yes = powers / powers.sum(1, keepdims=True), np.eye(scores.shape[1], dtype=bool)[targets]
        return (chances[:, 1], yes[:, 1]) if scores.shape[1] == 2 else (chances.ravel(), yes.ravel())
    if scores.size and scores.shape == targets.shape and np.isin(targets, (0, 1)).all():
        return 1 / (1 + np.exp(-scores.ravel())), targets.ravel().astype(bool)
    return None


def _counts(predictions: Predictions) -> tuple[np.ndarray, np.ndarray] | None:
    """Right and false alarms at each threshold, from the highest on: (R,) each; of equal chances all or none."""
    if (answers := _chances(predictions)) is None or not 0 < answers[1].sum() < len(answers[1]):
        return None
    chances, yes = answers
    order = np.argsort(-chances, kind="stable")
    ends = np.append(np.diff(chances[order]) != 0, True)
    right = yes[order].cumsum()[ends]
    return right, (np.flatnonzero(ends) + 1) - right


def _rates(predictions: Predictions) -> Points | None:
    if (counts := _counts(predictions)) is None:
        return None
    right, wrong = (np.concatenate([[0], part]) / part[-1] for part in counts)
    return wrong, right, f"area {np.trapezoid(right, wrong):.4f}"


def _found(predictions: Predictions) -> Points | None:
    if (counts := _counts(predictions)) is None:
        return None
    right, wrong = counts
    recall, precision = right / right[-1], right / (right + wrong)
    average = (np.diff(recall, prepend=0.0) * precision).sum()
    return recall, precision, f"average precision {average:.4f}"


def _confidence(predictions: Predictions) -> Points | None:
    """Of the answers, in bins of confidence of equal width: Guo and others, ICML 2017."""
    if (answers := _chances(predictions)) is None:
        return None
    (chances, yes), scores = answers, predictions.scores
    if scores.ndim == 2 and predictions.targets.ndim == 1 and scores.shape[1] > 2:  # of the answer that was given
        rows = chances.reshape(-1, scores.shape[1])
        answer = rows.argmax(1)
        chances, yes = rows.max(1), yes.reshape(rows.shape)[np.arange(len(rows)), answer]
    else:
        answer = chances >= 0.5
        chances, yes = np.where(answer, chances, 1 - chances), answer == yes
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    held = [bins == i for i in range(BINS) if (bins == i).any()]
    x, y = (np.array([values[part].mean() for part in held]) for values in (chances, yes))
    error = sum(part.sum() * abs(a - b) for part, a, b in zip(held, x, y, strict=True)) / len(bins)
    return x, y, f"calibration error {error:.2%}"
