"""
find_label_errors(): training samples whose labels are wrong, by models that were not trained on them.

Legend of the shape comments: N training samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import confident, datasets
from ..charts.heat import Given
from ..errors import LabError, SpecError, shown
from ..launchers import Launcher
from ..pictures import plain, words
from ..preparation import with_files
from ..run.handle import Run
from ..run.launching import launch
from ..section import Section, table
from ..spec import Spec
from ..store import shipping
from ..store.folder import ENDED
from ..tasks.seeing import given
from ..transforms.dealing import fold_of
from ..transforms.decisions import ACTIONS, Decisions, undecided
from ..transforms.picking import labels_of, parts
from .folding import FOLD, folded, place_of, whole
from .several import Several

if TYPE_CHECKING:
    import pandas as pd

    from ..charts import Chart
    from ..datasets import Data

MOST = 100  # folds
ROWS = 20  # of the table below a cell
NOTE = (
    "An estimate by confident learning (Northcutt et al. 2021) over cross-validated probabilities. Own probability: "
    "how likely a model that was not trained on the sample holds the given label. Hard samples are among the "
    "suspicious ones, and errors that such a model makes too are not: look at them."
)


def find_label_errors(
    spec: Spec,
    folds: int = 3,
    *,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    task: Any = None,
    collate: Any = None,
    on: str | Launcher = "local",
) -> LabelErrors:
    """
    Look for wrong labels in the training set, and return at once; each fold is a run of its own.

    A run trains as the spec says on all folds but one, and is asked about that one, so that each sample has the
    probabilities of a model that did not learn its label. Train for few epochs: a model that has learned wrong labels
    by heart is sure of others like them. The runs don't need the kernel: ``lab.LabelErrors(runs)`` of what `lab.runs()`
    finds shows them.

    Parameters
    ----------
    spec
        What to train, of a data set with one label a sample; model, optimizer, epochs, seed and world are its own.
    folds
        From 2 to 100. With more of them each model learns from more samples, and all take longer.
    model, data, loss, task, collate, on
        As `launch` takes them.

    Raises
    ------
    SpecError, LabError
        If a value is refused, as `launch` does.
    """
    if not isinstance(spec, Spec):
        raise SpecError(
            f"find_label_errors takes a Spec, not a {type(spec).__name__}: lab.find_label_errors(lab.Spec())"
        )
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= MOST:
        raise SpecError(f"folds={shown(folds)}: must be a whole number from 2 to {MOST}")
    if spec.parent or spec.compress:
        raise SpecError(
            f"parent={spec.parent!r}: label errors are sought by fresh models; leave out parent and compress"
        )
    if any(FOLD in item for item in spec.transforms):
        raise SpecError(f"transforms={FOLD!r}: find_label_errors deals the folds itself; leave it out")
    if data is None and not datasets.outline(spec.dataset, spec.options)[1]:
        raise SpecError(
            f"dataset={spec.dataset!r}: its samples have no labels, which are to be judged; take one of classes"
        )
    specs = [folded(spec, number, folds) for number in range(folds)]
    return LabelErrors(launch(specs, model, data, loss, task=task, collate=collate, on=on))


class LabelErrors(Several):
    """
    Labels that are wrong by what models say that were not trained on them; last in a cell it shows figure and table.

    Parameters
    ----------
    runs
        Those of all folds, in any order.

    Attributes
    ----------
    runs : list of Run
        In the order of their folds.

    Raises
    ------
    SpecError
        If they are not the folds of one spec.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        by_fold = {place_of(run): run for run in runs}
        self.runs = [by_fold[key] for key in sorted(by_fold)]
        folds = {key[1] for key in by_fold}
        if not by_fold or [*sorted(by_fold)] != [(number, len(by_fold)) for number in range(len(by_fold))]:
            raise SpecError(
                f"runs: must be all folds of one data set, and are {len(by_fold)} of {max(folds, default=0)}; "
                "lab.find_label_errors(spec) starts them"
            )

    def __repr__(self) -> str:
        return f"<LabelErrors: {self.sentence}>"

    @property
    def done(self) -> bool:
        """Whether all runs came to their end."""
        return all(run.state == "done" for run in self.runs)

    @cached_property
    def data(self) -> Data:
        """The data set before it was dealt to folds."""
        run = self.runs[0]
        return datasets.load(whole(with_files(run.spec, run.folder)), shipping.unpack(run.store, ("data",)).get("data"))

    @cached_property
    def labels(self) -> np.ndarray:
        """The given label of each training sample, (N,)."""
        given = labels_of(parts(self.data)["train"]) if self.data.classes else None
        if given is None or (given < 0).any():
            raise LabError("label errors are sought among samples with one label each, and these have none, or several")
        return given

    @cached_property
    def chances(self) -> np.ndarray:
        """
        Probabilities of each class by a model that was not trained on the sample, (N, K).

        A LabError says which runs are not done. Where a run has kept only some of its predictions, the others are NaN.
        """
        if broken := [f"{run.id} ({_state(run)})" for run in self.runs if run.state != "done"]:
            raise LabError(f"not every fold is done: {', '.join(broken)}; wait for them with errors.wait()")
        members = fold_of(self.data, self.runs[0].spec.seed, len(self.runs))
        chances = np.full((len(self.labels), len(self.data.classes)), np.nan)
        for number, run in enumerate(self.runs):
            predicted = run.predictions("test")
            if predicted.scores.shape[1:] != chances.shape[1:]:
                raise LabError(
                    f"run {run.id!r}: gives {predicted.scores.shape[1:]} scores of {chances.shape[1]} classes a sample"
                )
            chances[np.flatnonzero(members == number)[predicted.samples]] = _softmax(predicted.scores)
        return chances

    @cached_property
    def _asked(self) -> np.ndarray:
        """Places of the samples of which models were asked, (M,)."""
        return np.flatnonzero(~np.isnan(self.chances[:, 0]))

    @cached_property
    def joint(self) -> np.ndarray:
        """How many samples of each given label (rows) are really of each class (columns), (K, K), estimated."""
        return confident.joint(self.labels[self._asked], self.chances[self._asked])

    @property
    def fraction(self) -> float:
        """What fraction of the training labels is wrong, estimated; 0 to 1."""
        return float(1 - np.trace(self.joint) / max(1.0, self.joint.sum()))

    @cached_property
    def samples(self) -> np.ndarray:
        """Places in the training set of samples whose labels are wrong by the estimate, the likeliest first, (M,)."""
        return self._asked[confident.suspects(self.labels[self._asked], self.chances[self._asked])]

    @property
    def sentence(self) -> str:
        """The answer, or how far the runs are."""
        if not self.done:
            return f"{sum(run.state in ENDED for run in self.runs)} of {len(self.runs)} runs have ended"
        count = len(self._asked)
        return (
            f"about {self.fraction:.1%} of {count:,} training labels are wrong (an estimate); "
            f"{len(self.samples):,} are suspicious"
        )

    def frame(self) -> pd.DataFrame:
        """
        The suspicious samples, the likeliest error first, as a pandas table.

        Columns: sample (its place in the training set, `data.train`, less what is held out for validation), given and
        suggested (labels), own (probability of the given label), chance (of the suggested one).
        """
        import pandas as pd

        chances, names = self.chances[self.samples], np.asarray(self.data.classes, dtype=object)
        best, own = chances.argmax(1), self.labels[self.samples]
        rows = np.arange(len(own))
        columns = {"sample": self.samples, "given": names[own], "suggested": names[best]}
        return pd.DataFrame({**columns, "own": chances[rows, own], "chance": chances[rows, best]})

    def noise(self) -> pd.DataFrame:
        """
        How noisy the labels of each class are, as a pandas table.

        Columns: label, samples (that have it), wrong (fraction of these, estimated), mostly (the class that most of
        these are of), missing (samples of the class with other labels, estimated).
        """
        import pandas as pd

        names, joint = self.data.classes, self.joint
        off = joint - np.diag(np.diag(joint))
        given_, wrong = joint.sum(1), off.sum(1)
        mostly = [names[row.argmax()] if row.any() else "" for row in off]
        share = np.divide(wrong, given_, out=np.zeros(len(names)), where=given_ > 0)
        columns = {"label": names, "samples": np.rint(given_).astype(int), "wrong": share, "mostly": mostly}
        return pd.DataFrame({**columns, "missing": np.rint(off.sum(0)).astype(int)})

    def decisions(self, action: str = "keep") -> Decisions:
        """
        Decisions on the suspicious samples, all "keep", "relabel" (as suggested) or "drop", to be changed one by one.

        Saved as a file they are applied to a later run by ``transforms=[{"mend": {"file": ...}}]``.
        """
        check_action(action)
        spec = self.runs[0].spec
        made = {"runs": [run.id for run in self.runs], "model": spec.model, "epochs": spec.epochs, "seed": spec.seed}
        best = self.chances[self.samples].argmax(1)
        found = undecided(self.data, spec.dataset, self.samples.tolist(), best.tolist(), made)
        return found.all(action)

    def card(self, number: int) -> dict[str, Any]:
        """What is to be seen of a suspicious sample, counted from 0, as charts draw it."""
        from dataclasses import replace

        place = int(self.samples[number])
        train: Any = self.data.train
        x = train[0][place] if isinstance(train, tuple) else train[place][0]
        raw = replace(self.data, mean=(), std=())  # what is seen is not scaled
        view = given(x, raw)
        row, names = self.chances[place], self.data.classes
        own, best = int(self.labels[place]), int(row.argmax())
        seen = {"sample": view} if view else {}
        seen |= {
            "given": words(f"{names[own]} ({row[own]:.1%})"),
            "suggested": words(f"{names[best]} ({row[best]:.1%})"),
        }
        return {"sample": place, "seen": plain(seen)}

    def figure(self) -> Chart:
        """Samples by given label and what they really are, estimated."""
        names = self.data.classes
        off = [(c, i, j) for i, row in enumerate(self.joint) for j, c in enumerate(row) if i != j and c >= 0.5]
        most = "; ".join(f"{names[i]} that are {names[j]}: {c:.0f}" for c, i, j in sorted(off, reverse=True)[:3])
        text = f"Given labels and what they really are, an estimate: {self.sentence}."
        text += f" Most often: {most}." if most else ""
        counts = np.rint(self.joint).astype(int).tolist()
        return Given(f"Given labels and what they really are (estimated)\n{self.sentence}", text, counts, list(names))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        if not self.done:
            return {"text/plain": repr(self)}
        section = self._section()
        return {"text/html": f"{self.figure().html}{section.html}", "text/plain": f"{self.sentence}\n\n{section.text}"}

    def _section(self) -> Section:
        frame = self.frame().head(ROWS)
        rows = [
            [str(row.sample), str(row.given), str(row.suggested), f"{row.own:.2%}", f"{row.chance:.1%}"]
            for row in frame.itertuples()
        ]
        note = f"The first {len(rows)} of {len(self.samples):,}. {NOTE}"
        columns = ["training sample", "given", "suggested", "own probability", "of the suggested"]
        return table("Suspicious labels", columns, rows, note, numeric=True)


def check_action(action: str) -> None:
    """Refuse what nobody can decide."""
    if action not in ACTIONS:
        raise SpecError(f"action={shown(action)}: must be one of {', '.join(ACTIONS)}")


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _state(run: Run) -> str:
    return f"failed, {run.failure}" if run.failure else run.state
