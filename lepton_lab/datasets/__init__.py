"""
Data sets: DATASETS maps a name to a function `(root, seed, **options) -> Data`.

`root` is the folder where files are looked for, or downloaded to; `seed` deals samples out where no split is published,
such as a tenth of the training images for validation. What a user brings is made into Data by `from_user`.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table; files that it downloads
are an entry of SOURCES. WEIGHTS are models that others trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import data_root
from ..preparation import applied
from ..tables import pick
from . import cifar, cutouts, dialogues, fsdd, idx, mails, movielens, reviews, text, verses
from .base import Data, Split, length, rows, scaling
from .cifar import cifar10
from .collating import TEXTS, Collate, Pad, bucketed, collated, lengths
from .files import fetch, find, require
from .hearing import tones, vowels
from .idx import fashion_mnist, mnist
from .overview import details, origin, overview
from .own import from_user, usual
from .pretrained import WEIGHTS
from .ratings import ratings
from .scenes import scene_labels, scene_masks, scenes
from .sentences import sentences
from .sharded.dataset import Shards
from .sharded.opening import shards
from .sharded.ordering import cut
from .sharded.writing import write as write_shards
from .small import blobs, digits
from .sources import SOURCES
from .streams import Stream
from .tabular import breast_cancer, diabetes
from .text import pydocs, tinyshakespeare
from .weights import weights

if TYPE_CHECKING:
    from ..spec import Spec

__all__ = ["DATASETS", "SOURCES", "TEXTS", "Collate", "Data", "Pad", "Shards", "Split", "Stream", "bucketed"]
__all__ += ["WEIGHTS", "check", "collated", "cut", "details", "fetch", "from_user", "length", "lengths", "load"]
__all__ += ["origin", "overview", "rows", "scaling", "shards", "usual", "weights", "write_shards"]

DATASETS: dict[str, Callable[..., Data]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "blobs": blobs,
    "scenes": scenes,
    "scene_masks": scene_masks,
    "scene_labels": scene_labels,
    "tones": tones,
    "vowels": vowels,
    "ratings": ratings,
    "sentences": sentences,
    "pydocs": pydocs,
    "tinyshakespeare": tinyshakespeare,
    "sst2": reviews.sst2,
    "spam": mails.spam,
    "chatterbot": dialogues.chatterbot,
    "verses": verses.verses,
    "fsdd": fsdd.fsdd,
    "movielens_100k": movielens.movielens_100k,
    "tuxpaint": cutouts.tuxpaint,
}

GLANCES = {
    "cifar": cifar.glance,
    "cutouts": cutouts.glance,
    "dialogues": dialogues.glance,
    "fsdd": fsdd.glance,
    "idx": idx.glance,
    "mails": mails.glance,
    "movielens": movielens.glance,
    "reviews": reviews.glance,
    "text": text.read,
    "verses": verses.glance,
}
"""By the format of published files: what refuses a damaged one from little of it."""


def check(name: str, root: Path) -> None:
    """
    Refuse at once, before a launch, what can be seen to be bad without reading a data set whole (a millisecond).

    A folder of LEPTON_LAB_DATA that is not there, or a file with a wrong header or length, is a SpecError. Files that
    are missing are none: loading downloads them.
    """
    if name not in SOURCES:
        return
    require(root)
    for path in {find(name, root, file) for file in SOURCES[name].files()}:
        if path is not None:
            GLANCES[SOURCES[name].format](path)


def load(spec: Spec, own: Data | None = None) -> Data:
    """
    The splits of a run after the spec's transforms: of a user's own data, else of the data set that the spec names.

    That is one of DATASETS, downloaded where its files are not there yet. A set that can't be had, whose files are
    damaged, or that a transform does not fit, is a SpecError or LabError.
    """
    if own is None:
        dataset = pick(DATASETS, spec.dataset, "dataset")
        own = dataset(data_root(), spec.seed, **spec.options_of(dataset))
        own.task = next(iter(dataset.tasks), "")
    return applied(own, spec)
