"""The list of a spec's transforms: what is refused of it, and what it makes of data."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SpecError
from .links import Link, links
from .tables import keywords, table

if TYPE_CHECKING:
    from .datasets import Data
    from .spec import Spec

Sample = tuple[tuple[int, ...], int, int]
FOLDER = "transforms"
"""In a run's folder: files that its transforms read, and what they did."""
KINDS = {
    "pictures": "pictures",
    "table": "rows of numbers",
    "tokens": "tokens",
    "sound": "sounds",
    "spectra": "pictures of spectra",
    "series": "series of numbers",
    "nest": "samples with names or parts",
}
"""What the x of samples may be, and how sentences call them."""


def kind(data: Data) -> str:
    """What the x of samples are, a name of KINDS."""
    if data.example is not None:
        return "nest"
    return kind_of(data.shape, data.vocabulary, data.sample_rate)


def kind_of(shape: tuple[int, ...], vocabulary: int, sample_rate: int = 0) -> str:
    """The same, of what is known before data are read."""
    if vocabulary:
        return "tokens"
    if sample_rate:
        return "spectra" if len(shape) == 3 else "sound"
    return {1: "table", 3: "pictures"}.get(len(shape), "series")


def told_of(entry: Any, options: Mapping[str, Any]) -> tuple[str, Sample]:
    """
    Of an entry of DATASETS, before it is read: a name of KINDS, and what models are told.

    Of one by path that is asked of the files, under those of the options that are its own; SpecError where nothing can
    be made of them.
    """
    sample: Sample = entry.outline(options) if hasattr(entry, "outline") else entry.sample
    return getattr(entry, "kind", "") or kind_of(sample[0], sample[2]), sample


def ordered(chosen: Sequence[Link]) -> str:
    """Why a list can't be done in its order, as one sentence; "" where it can."""
    first = copied = fitted = scaled = ""
    for name, options in links([*chosen]):
        member = table("transform")[name]
        if member.deals and copied:
            return (
                f"transforms: {copied!r} makes copies of samples, which {name!r} would deal to several splits: "
                f"put {name!r} before it"
            )
        if member.deals and fitted:
            return (
                f"transforms: {fitted!r} learns from the training samples, of which {name!r} would put some into other "
                f"splits: put {name!r} before it"
            )
        if member.remakes and scaled:
            return (
                f"transforms: {name!r} makes other numbers of samples, which those of {scaled!r} don't fit: put "
                f"{scaled!r} after it"
            )
        scaled = scaled or name * member.scales
        copied, fitted = copied or name * member.copies(**options), fitted or name * member.fits
        if member.augments:
            first = first or name
        elif first:
            return f"transforms: {name!r} makes data once, and {first!r} changes them in training: put it before that"
    return ""


def refuse(name: str, options: dict[str, Any], kind: str, sample: Sample, dataset: str) -> str:
    """Why a transform does not fit samples of a kind, as one sentence; "" where it does."""
    member = table("transform")[name]
    if member.kinds and kind not in member.kinds and not (kind == "spectra" and "pictures" in member.kinds):
        fits = " or ".join(KINDS[each] for each in member.kinds)
        return f"transforms={name!r}: is for {fits}, and dataset={dataset!r} has {KINDS[kind]}; leave it out"
    if member.mixes and not sample[1]:
        return f"transforms={name!r}: mixes labels of classes, and dataset={dataset!r} has none; leave it out"
    why = member.refuse(*sample, **options)
    return f"transforms={name!r}: {why}" if why else ""


def outlined(spec: Spec) -> Sample:
    """
    What models are told of the samples of a spec's data set of the table, after its transforms, before it is read.

    A transform that does not fit is a SpecError.
    """
    return outline(spec.dataset, spec.options, spec.transforms)[1]


def outline(dataset: str, options: Mapping[str, Any], transforms: Sequence[Link]) -> tuple[str, Sample]:
    """The same of a data set's name and options, with a name of KINDS."""
    what, sample = told_of(table("dataset")[dataset], options)
    for name, chosen in links([*transforms]):
        if why := refuse(name, chosen, what, sample, dataset):
            raise SpecError(why)
        before, sample = sample, table("transform")[name].sees(*sample, **chosen)
        what = what if sample == before else kind_of(sample[0], sample[2], what in ("sound", "spectra"))
    return what, sample


def applied(data: Data, spec: Spec) -> Data:
    """Data after those of a spec's transforms that make data once; one that does not fit is a SpecError."""
    for name, options in links(spec.transforms):
        if not (member := table("transform")[name]).augments:
            _fits(name, options, data, spec)
            data = member(data, spec.seed, **options)
    fit(data, spec)
    return dataclasses.replace(data, augmented=True) if augmenting(spec) else data


def fit(data: Data, spec: Spec) -> None:
    """Refuse, with a SpecError, those that change batches in training and don't fit what the others made of data."""
    for name, options in links(spec.transforms):
        if table("transform")[name].augments:
            _fits(name, options, data, spec)


def _fits(name: str, options: dict[str, Any], data: Data, spec: Spec) -> None:
    if why := refuse(name, options, kind(data), data.sample, spec.dataset):
        raise SpecError(why)
    if table("transform")[name].mixes and _several(data):
        raise SpecError(f"transforms={name!r}: mixes samples that have one label each, and these have several")


def _several(data: Data) -> bool:
    """Whether a sample has more than one target, as far as that can be seen of the first of them."""
    import torch

    train: Any = data.train
    if isinstance(train, tuple):
        return train[1].dim() > 1
    forwards = getattr(train, "forwards", False)  # a stream, of which nothing is read before the start
    return data.collate is None and not forwards and torch.as_tensor(train[0][1]).numel() > 1


def keep_files(spec: Spec, folder: Path, source: Path | None = None) -> None:
    """
    Copy the files that a spec's transforms read into a run's folder; a bad one is a SpecError.

    One that is gone is taken from the folder of the run that this one is like, `source`.
    """
    for _, _, path, copy, read in _files(spec):
        there = source / FOLDER / copy if source and not Path(path).expanduser().exists() else Path(path).expanduser()
        read(str(there) if there.exists() else path)
        (folder / FOLDER / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(there, folder / FOLDER / copy)


def with_files(spec: Spec, folder: Path) -> Spec:
    """A run's spec, whose transforms read the copies in its folder."""
    chosen = [{name: dict(options)} for name, options in links(spec.transforms)]
    copied = False
    for number, option, _, copy, _ in _files(spec):
        if (place := folder / FOLDER / copy).exists():
            options = next(iter(chosen[number].values()))
            options[option], copied = str(place), True
    return spec.replace(transforms=chosen) if copied else spec


def _files(spec: Spec) -> list[tuple[int, str, str, str, Callable[[str], Any]]]:
    """Of each file that transforms read: the transform's place, its option, the path, its copy, and what reads it."""
    found = []
    for number, (name, options) in enumerate(links(spec.transforms)):
        for option, read in table("transform")[name].reads.items():
            path = options.get(option, keywords(table("transform")[name])[option].default)
            found.append((number, option, path, f"{number}/{Path(path).name}", read))
    return found


def augmenting(spec: Spec) -> list[tuple[Any, dict[str, Any]]]:
    """Those of a spec's transforms that change batches in training, with their options."""
    chosen = ((table("transform")[name], options) for name, options in links(spec.transforms))
    return [(member, options) for member, options in chosen if member.augments]
