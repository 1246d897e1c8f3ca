"""What a name `shards:PATH` leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...files import sized
from ..base import Data
from ..collating import Pad, collated
from ..own import chosen
from ..paths.examples import Example, png
from ..paths.looking import SHOWN, Look
from .blocks import firsts
from .dataset import Shards
from .index import Index, load
from .places import find
from .sources import Source, source

FEW = 10
"""Training samples of which a tenth is held out."""


def shards(path: str, root: Path, seed: int) -> Data:
    """
    Shards: tars in WebDataset's format or Parquet files, in a folder, over HTTP or on an object store.

    They are read block by block, so that memory does not grow with the set. An epoch takes each sample once, in an
    order that depends on the seed alone. `lepton-lab data shard` writes such sets; of others an index is made by one
    look through all, and kept.

    Data: pairs (x, y) where a sample is `.cls` and another file, `x.*` and `y.*`, or two columns one of which is a
    label; else dicts by name.

    Parameters
    ----------
    path
        A folder or the prefix of a store; one shard; some, as `train-{000..011}.tar`; or an `index.json`. Names, or
        folders, that begin with train, val and test are splits; without val a tenth of train is held out.
    root, seed
        The seed deals out what is held out.

    Raises
    ------
    SpecError
        If there are none, or one is damaged, by its name.
    """
    reader = source(path)
    index = _index(path, reader)
    splits = {split: Shards(files, reader) for split, files in index.splits.items()}
    train, val = splits["train"], splits.get("val")
    if val is None and len(train) >= FEW:
        files = index.splits["train"]
        train, val = Shards(files, reader, tenth=False, seed=seed), Shards(files, reader, tenth=True, seed=seed)
    return _data(train, val, splits.get("test"), index)


def look(path: str) -> Look:
    """What there is, by the index and the first samples; SpecError as of `shards`."""
    reader = source(path)
    index = _index(path, reader)
    counts = {split: sum(shard.samples for shard in files) for split, files in index.splits.items()}
    files = [shard for shards in index.splits.values() for shard in shards]
    facts = {"shards": f"{len(files):,} of together {sized(sum(shard.bytes for shard in files))}"}
    if "val" not in counts and counts["train"] >= FEW:
        facts["held out"] = "a tenth of train, for validation"
    samples, classes = firsts(index.splits["train"], reader, SHOWN), _classes(index)
    shape = getattr(samples[0][0], "shape", ()) if isinstance(samples[0], tuple) else ()
    return Look(
        name=f"shards:{path}",
        sample=(tuple(shape), len(classes), index.about.get("vocabulary", 0)),
        splits=counts,
        facts=facts,
        examples=[_example(sample, classes) for sample in samples],
    )


def tasks(path: str) -> list[str]:
    """What the samples are for, as who wrote them knew it."""
    return [task] if (task := _index(path, source(path)).about.get("task")) else []


shards.look, shards.tasks = look, tasks  # type: ignore[attr-defined]


def _example(sample: Any, classes: list[str]) -> Example:
    """A sample to be looked at."""
    if not isinstance(sample, tuple):
        return Example("", _leaves(sample))
    x, y = sample
    if isinstance(y, dict):
        label = _leaves(y)
    else:
        label = classes[int(y)] if classes and not getattr(y, "ndim", 0) and 0 <= int(y) < len(classes) else ""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    if len(shape) == 3 and shape[0] in (1, 3) and x.dtype.name == "uint8":
        return Example(label, " x ".join(map(str, shape)), png(x))
    return Example(label, f"{shape} {getattr(x, 'dtype', '')}" if shape else str(x))


def _leaves(named: dict[str, Any]) -> str:
    """Names, with shapes of arrays."""
    return ", ".join(f"{name} {getattr(value, 'shape', value)}" for name, value in named.items())


def _index(path: str, reader: Source) -> Index:
    index = load(find(path, reader), reader)
    if not any(shard.samples for shard in index.splits.get("train", [])):
        raise SpecError(f"dataset='shards:{path}': its shards hold no training samples")
    return index


def _classes(index: Index) -> list[str]:
    return index.about.get("classes") or [str(label) for label in range(index.about.get("labels", 0))]


def _data(train: Shards, val: Shards | None, test: Shards | None, index: Index) -> Data:
    import torch

    classes, kept = _classes(index), {k: v for k, v in index.about.items() if k not in ("classes", "labels")}
    about: dict[str, Any] = kept | {name: tuple(kept.get(name, ())) for name in ("mean", "std", "reworded")}
    if known := about.get("about"):  # of all training samples, where some are held out
        parts = {"train": train} | ({} if "val" in index.splits or val is None else {"val": val})
        about["about"] = known | {name: chosen(known["train"], part.places) for name, part in parts.items()}
    about.setdefault("sample_rate", train.sample_rate)
    sample = train[0]
    shape = tuple(sample[0].shape) if isinstance(sample, tuple) and isinstance(sample[0], torch.Tensor) else ()
    if shape and not isinstance(sample[1], dict):
        return Data(train, val, test, shape, classes, **about)
    collate = Pad()
    example: Any = collated(collate, [train[i] for i in range(min(2, len(train)))])
    return Data(train, val, test, shape, classes, **about, collate=collate, example=example)
