"""What a person decided of suspicious samples: keep, relabel or drop each; as a file that is data alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError, shown
from ..files import write_json
from .base import once
from .picking import digest, digests, keep, labels_of, parts, picked, relabelled, told

if TYPE_CHECKING:
    from ..datasets import Data

FORMAT = "lepton-lab-decisions-1"
ACTIONS = ("keep", "relabel", "drop")


@dataclass(frozen=True)
class Decision:
    """What becomes of one sample, which is known by its contents, wherever it is dealt to."""

    sample: int
    """Its place in the training set when it was decided."""
    digest: str
    """Of its contents, see `picking.digests`."""
    given: str
    """The label that it has."""
    action: str = "keep"
    """One of ACTIONS."""
    label: str = ""
    """The label that it gets, of "relabel"."""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise SpecError(f"decision of sample {self.sample}: {shown(self.action)} must be keep, relabel or drop")
        if self.action == "relabel" and not self.label:
            raise SpecError(f"decision of sample {self.sample}: relabel needs the label that it gets")


@dataclass(frozen=True)
class Decisions:
    """
    Decisions on samples of one data set.

    They are samples that someone looked at: those to keep are listed too, so that nobody need look again.
    """

    dataset: str
    """What the data set is called."""
    digest: str
    """Of all its samples and labels when it was decided, see `picking.digest`."""
    classes: tuple[str, ...]
    made: dict[str, Any]
    """Where the suspicions came from: runs, folds and the like."""
    each: tuple[Decision, ...]

    def __len__(self) -> int:
        return len(self.each)

    def decided(self, sample: int, action: str, label: str = "") -> Decisions:
        """The same with another decision on one sample; relabel takes the label that is there if none is given."""
        if sample not in {one.sample for one in self.each}:
            raise SpecError(f"sample={sample!r}: is not among the {len(self)} that are to be decided")
        if label and label not in self.classes:
            raise SpecError(f"label={shown(label)}: is no class of {self.dataset!r}: {', '.join(self.classes[:20])}")
        changed = (
            replace(one, action=action, label=label or one.label) if one.sample == sample else one for one in self.each
        )
        return replace(self, each=tuple(changed))

    def all(self, action: str) -> Decisions:
        """The same with one decision on all samples; relabel takes the label that is suggested."""
        return replace(self, each=tuple(replace(one, action=action) for one in self.each))

    def over(self, earlier: Decisions) -> Decisions:
        """The same with what was decided earlier on samples that are among these; a SpecError where none is."""
        known = {(one.digest, one.given): one for one in earlier.each}
        matched = [known.get((one.digest, one.given)) for one in self.each]
        if known and not any(matched):
            raise SpecError(
                f"decisions: none of {len(known)} made earlier, of {earlier.dataset!r}, is on these samples"
            )
        pairs = zip(self.each, matched, strict=True)
        merged = (replace(one, action=was.action, label=was.label) if was else one for one, was in pairs)
        return replace(self, each=tuple(merged))

    @property
    def counts(self) -> dict[str, int]:
        """How many are to be kept, relabelled and dropped."""
        actions = Counter(one.action for one in self.each)
        return {action: actions[action] for action in ACTIONS}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write them as a JSON file that the transform `mend` applies; the folder must be there."""
        place = Path(path).expanduser().absolute()
        if not place.parent.is_dir():
            raise SpecError(f"path={str(path)!r}: there is no folder {str(place.parent)!r}")
        write_json(place, {"format": FORMAT, **asdict(self)})
        return place

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Decisions:
        """Those of a file; a SpecError says why it is none."""
        try:
            content = json.loads(Path(path).expanduser().read_text())
            if content.pop("format") != FORMAT:
                raise ValueError("it has another format")
            content["each"] = tuple(Decision(**one) for one in content["each"])
            return cls(**{**content, "classes": tuple(content["classes"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"it holds no decisions that can be read ({error})"
            raise SpecError(
                f"file={str(path)!r}: {why}; Decisions.save writes one, from lab.find_label_errors"
            ) from None


@once(reads={"file": Decisions.read})
def mend(data: Data, seed: int, *, file: Annotated[str, Field(min_length=1)] = "decisions.json") -> Data:
    """
    Apply what was decided of training samples: some get another label, some are dropped.

    Samples are known by their contents, so that a file fits whatever the seed has dealt to the training set. Those of a
    data set that was cropped, scaled or made anew since are others: place it before what changes samples.

    Parameters
    ----------
    data, seed
        Nothing is drawn.
    file
        A JSON file of decisions, as `Decisions.save` writes it. The run keeps a copy.

    Raises
    ------
    SpecError
        If the file can't be read, or none of its samples is there.
    """
    import numpy as np

    train = parts(data)["train"]
    decisions, labels = Decisions.read(file), labels_of(train)
    if labels is None:
        raise SpecError("transforms='mend': needs pairs with one label a sample, and these have none, or more than one")
    known = {(one.digest, one.given): one for one in decisions.each}
    names = [data.classes[label] if 0 <= label < len(data.classes) else str(label) for label in labels]
    matched = [known.get(key) for key in zip(digests(data.train), names, strict=True)]
    if decisions.each and not any(matched):
        raise SpecError(
            f"file={file!r}: none of its {len(decisions)} samples is in the training set; it was made of "
            f"{decisions.dataset!r}, before any transform that changes samples"
        )
    changed, gone = labels.copy(), []
    for place, one in enumerate(matched):
        if one is not None and one.action == "relabel":
            changed[place] = _number(data, one)
        if one is not None and one.action == "drop":
            gone.append(place)
    if len(gone) == len(labels):
        raise SpecError(f"file={file!r}: drops all {len(gone)} training samples; keep some of them")
    moved = np.flatnonzero(changed != labels).tolist()
    mended = replace(data, train=relabelled(data.train, changed))
    mended = keep(mended, train=np.setdiff1d(np.arange(len(labels)), gone))
    text = f"{len(moved):,} training samples relabelled and {len(gone):,} dropped, as {Path(file).name} says"
    if absent := len(known.keys() - {(one.digest, one.given) for one in matched if one}):
        text += f"; {absent:,} of its {len(known):,} samples are not in this training set"
    return told(mended, "mend", text, [("train", place) for place in sorted({*moved, *gone})])


def _number(data: Data, decision: Decision) -> int:
    if decision.label not in data.classes:
        raise SpecError(
            f"transforms='mend': label {decision.label!r} of sample {decision.sample} is no class of the data"
        )
    return data.classes.index(decision.label)


def undecided(data: Data, name: str, places: Sequence[int], labels: Sequence[int], made: dict[str, Any]) -> Decisions:
    """Decisions to make on training samples: each is kept so far, with the label that is suggested."""
    given = labels_of(picked(data.train, places))
    assert given is not None, "only samples with one label are suspicious"
    names = data.classes
    rows = zip(places, digests(picked(data.train, places)), given, labels, strict=True)
    each = (Decision(int(place), one, names[own], label=names[new]) for place, one, own, new in rows)
    return Decisions(name, digest(data), tuple(names), made, tuple(each))
