"""
Data sets: DATASETS maps a name to a function `(root, seed, **options) -> Data`.

`root` is the folder where files are looked for, or downloaded to; `seed` deals samples out where no split is published,
such as a tenth of the training images for validation. What a user brings is made into Data by `from_user`.

A name may also be `KIND:PATH`, such as `images:photos/`: OPENERS maps a kind to its opener, `(path, root, seed,
**options) -> Data`.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table; files that it downloads
are an entry of SOURCES. WEIGHTS are models that others trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..files import data_root
from ..preparation import applied, told_of
from ..tables import pick
from . import cifar, cutouts, dialogues, fsdd, glosses, idx, mails, movielens, reviews, text, verses
from .base import Data, Sample, Split, length, rows, scaling
from .cifar import cifar10
from .collating import Collate, Pad, bucketed, collated, lengths
from .dates import dates
from .files import fetch, find, gzipped, require
from .hearing import tones, vowels
from .idx import fashion_mnist, mnist
from .overview import details, overview
from .overview import origin as published
from .own import from_user, usual
from .paths import naming
from .paths.arrays import npz
from .paths.arrow import hf
from .paths.audio import audio
from .paths.images import images
from .paths.lines import lines
from .paths.looking import Look
from .paths.running import text as running
from .paths.table import table
from .pretrained import WEIGHTS
from .ratings import ratings
from .scenes import scene_labels, scene_masks, scenes
from .sentences import sentences
from .sharded.dataset import Shards, ordered
from .sharded.opening import shards
from .sharded.writing import write as write_shards
from .small import blobs, digits
from .sources import SOURCES
from .streams import Stream
from .tabular import breast_cancer, diabetes
from .text import pydocs, tinyshakespeare
from .weights import weights

if TYPE_CHECKING:
    from ..spec import Spec

__all__ = ["DATASETS", "OPENERS", "SOURCES", "WEIGHTS", "Collate", "Data", "Look", "Pad", "Shards", "Split"]
__all__ += ["Stream", "bucketed", "check", "collated", "details", "fetch", "from_user", "length", "lengths"]
__all__ += ["load", "look", "ordered", "origin", "outline", "overview", "rows", "scaling", "settled", "shards", "usual"]
__all__ += ["weights", "write_shards"]

OPENERS: dict[str, Callable[..., Data]] = {
    "images": images,
    "table": table,
    "lines": lines,
    "text": running,
    "audio": audio,
    "npz": npz,
    "hf": hf,
    "shards": shards,
}
"""Kinds of data that a path leads to, in names such as "images:photos/"."""

DATASETS: dict[str, Callable[..., Data]] = naming.Named(
    {
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
        "dates": dates,
        "glosses": glosses.glosses,
        "fsdd": fsdd.fsdd,
        "movielens_100k": movielens.movielens_100k,
        "tuxpaint": cutouts.tuxpaint,
        "cutout_scenes": cutouts.cutout_scenes,
    },
    OPENERS,
)

NONE: Mapping[str, Any] = MappingProxyType({})
GLANCES = {
    "cifar": cifar.glance,
    "cutouts": cutouts.glance,
    "dialogues": dialogues.glance,
    "fsdd": fsdd.glance,
    "glosses": glosses.glance,
    "idx": idx.glance,
    "mails": gzipped,
    "movielens": movielens.glance,
    "reviews": reviews.glance,
    "text": text.read,
    "verses": verses.glance,
}
"""By the format of published files: what refuses a damaged one from little of it."""


def check(name: str, root: Path, options: Mapping[str, Any] = NONE) -> None:
    """
    Refuse at once, before a launch, what can be seen to be bad without reading a data set whole (a millisecond).

    A folder of LEPTON_LAB_DATA that is not there, or a file with a wrong header or length, is a SpecError, and so is a
    path that holds no data of its kind, under options of it. Files that are missing are none: loading downloads them.
    """
    if name not in SOURCES:
        outline(name, options)
        return
    require(root)
    for path in {find(name, root, file) for file in SOURCES[name].files()}:
        if path is not None:
            GLANCES[SOURCES[name].format](path)


def outline(name: str, options: Mapping[str, Any] = NONE) -> Sample:
    """
    What models are told of a data set before it is read: shape of a sample, number of classes, and kinds of tokens.

    Of `options` those count that a path's kind takes.
    """
    return told_of(pick(DATASETS, name, "dataset"), options)[1]


def look(dataset: str, **options: Any) -> Look:
    """
    What there is in a data set, before anything is trained on it: parts, classes, sizes, and a few samples.

    Its text is for a terminal; a notebook shows pictures and sounds too.

    Parameters
    ----------
    dataset
        As `Spec` takes it: a name of DATASETS, or KIND:PATH, such as "images:photos/".
    **options
        Of the data set, such as size=64.

    Raises
    ------
    SpecError
        If nothing can be made of what lies there, or an option is refused.
    """
    entry = pick(DATASETS, dataset, "dataset")
    taken = naming.taken(dataset, entry, options)
    seen = entry.look(**taken) if isinstance(entry, naming.Opened) else Look.of(dataset, entry(data_root(), 0, **taken))
    return replace(seen, name=dataset)


def settled(name: str) -> str:
    """A data set's name as a run keeps it: with a path in full, which ranks, a resume and another process find."""
    return naming.settled(name, OPENERS)


def origin(name: str) -> dict[str, Any]:
    """
    Where a data set's files come from, for a run to keep; {} of what needs no files.

    Of published ones licence, digests and places; of a path how many there are, and a digest of their names, sizes and
    times of change.
    """
    return naming.record(name, OPENERS) or published(name)


def load(spec: Spec, own: Data | None = None) -> Data:
    """
    The splits of a run after the spec's transforms: of a user's own data, else of the data set that the spec names.

    That is one of DATASETS, downloaded where its files are not there yet. A set that can't be had, whose files are
    damaged, or that a transform does not fit, is a SpecError or LabError.
    """
    if own is None:
        dataset = pick(DATASETS, spec.dataset, "dataset")
        own = dataset(data_root(), spec.seed, **spec.options_of(dataset))
        own.task = own.task or next(iter(getattr(dataset, "tasks", ())), "")
    return applied(own, spec)
