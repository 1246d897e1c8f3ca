"""Checkpoints on a store: each under a fresh prefix, a marker last; only what has one is read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from ...errors import LabError
from ...files import read_json
from ..trust import close_to_others
from .bucket import Bucket, refusal
from .link import STORED, address, apart, elsewhere, note

COMMIT = "COMMIT.json"
MARKER = "complete"  # a file in a checkpoint's folder, written when all else is on the disk


def markers(folder: Path) -> Iterable[Path]:
    """The marker of each checkpoint in a run's folder that is complete."""
    return (folder / "checkpoints").glob(f"step-*/{MARKER}")


def source(folder: Path, step: str) -> str | None:
    """The prefix that a checkpoint in a run's folder was brought from; "" if it was made there, None if it is not."""
    try:
        return (folder / "checkpoints" / step / MARKER).read_text()
    except FileNotFoundError:
        return None


def fresh(step: str, attempt: int) -> str:
    """A prefix for a checkpoint that ranks saved which began as the run's `attempt`-th."""
    return f"checkpoints/{step}-{attempt}.{secrets.token_hex(4)}"


def stage(path: Path, place: Path, attempt: int) -> Path:
    """Hold a checkpoint's files, so that their going up outlasts their removal; costs no room."""
    staged = place / f".{fresh(path.name, attempt).partition('/')[2]}"
    shutil.copytree(path, staged, copy_function=os.link)
    return staged


def upload(bucket: Bucket, run: str, staged: Path) -> str:
    """Put what was staged under a prefix of its own, commit it, and return the prefix; the staged is gone then."""
    prefix = f"checkpoints/{staged.name.removeprefix('.')}"
    try:
        commit(bucket, run, prefix, put(bucket, f"{run}/{prefix}", staged))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return prefix


def put(bucket: Bucket, prefix: str, folder: Path) -> dict[str, int]:
    """Put the files of a folder under a prefix; returns their sizes by name."""
    sizes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        called = path.relative_to(folder).as_posix()
        sizes[called] = path.stat().st_size
        with contextlib.suppress(FileExistsError):  # by us, whose answer was lost: nobody else knows of the prefix
            bucket.upload(f"{prefix}/{called}", path)
    return sizes


def commit(bucket: Bucket, run: str, prefix: str, sizes: dict[str, int]) -> None:
    """Have a checkpoint count of which all is there."""
    with contextlib.suppress(FileExistsError):
        bucket.put(f"{run}/{prefix}/{COMMIT}", json.dumps({"files": sizes, "t": time.time()}).encode())


def sweep(bucket: Bucket, run: str, keep: Collection[str], attempt: int) -> None:
    """
    Remove all but `keep`, also what was cut off; nothing of the run is on its way up now.

    What ranks saved that began after this `attempt` stays: others have gone on without those who ask, which these may
    not know yet.
    """
    for prefix in (f"checkpoints/{name}" for name in bucket.names(f"{run}/checkpoints")):
        if prefix not in keep and _attempt(prefix) <= attempt:
            bucket.remove(f"{run}/{prefix}/{COMMIT}")  # first: a half-removed one must not be taken for whole
            bucket.remove(f"{run}/{prefix}")


def _attempt(prefix: str) -> int:
    """That of `fresh`, of a prefix; of those that know of none, 0."""
    word = prefix.rpartition("-")[2].partition(".")[0]
    return int(word) if "." in prefix and word.isdecimal() else 0


def committed(bucket: Bucket, run: str) -> dict[str, str]:
    """Prefixes of the checkpoints that count, by name; the later one of the same step."""
    found = bucket.get(f"{run}/checkpoints/{name}/{COMMIT}" for name in bucket.names(f"{run}/checkpoints"))
    times = {name.split("/")[-2]: json.loads(body).get("t", 0.0) for name, body in found.items()}
    ordered = sorted(times, key=lambda name: (_attempt(name), times[name]))
    return {name.rpartition("-")[0]: f"checkpoints/{name}" for name in ordered}


def bring_home(folder: Path) -> None:
    """
    Have all checkpoints here that nodes put on the store, before ranks of this machine go on with them.

    Which there are the store says: a supervisor that was killed may not have known of the last.
    """
    if apart(folder):
        record = read_json(folder / STORED)
        record = {**record, "saved": reached(record["address"], folder.name)}
        note(folder, STORED, record)
        keep_same(folder, record["saved"])
        for step in record["saved"]:
            fetch(folder, step)
        note(folder, STORED, {**record, "live": False})


def keep_same(folder: Path, told: dict[str, str]) -> None:
    """Remove checkpoints in a run's folder but those that were brought from the prefixes told."""
    for marker in markers(folder):
        if source(folder, marker.parent.name) != told.get(marker.parent.name):
            shutil.rmtree(marker.parent, ignore_errors=True)


def reached(where: str, id: str) -> dict[str, str]:
    """As `committed`, of a run at an address. LabError if the store can't be reached."""
    try:
        return committed(Bucket(where), f"runs/{id}")
    except Exception as error:  # of any library that fsspec builds on
        raise LabError(f"checkpoints can't be looked for at {refusal(where, error)}") from None


def fetch(folder: Path, step: str, bucket: Bucket | None = None) -> None:
    """
    Bring a checkpoint that is on a store alone down, into its place, where it is not there yet.

    Raises
    ------
    LabError
        If it was not committed, is not whole, or the store can't be reached.
    """
    if (prefix := elsewhere(folder).get(step)) is None or source(folder, step) == prefix:
        return
    where = address(folder)
    assert where is not None, "it is on a store"
    try:
        bring(bucket or Bucket(where), folder, step, prefix)
    except LabError:
        raise
    except Exception as error:
        raise LabError(f"a checkpoint can't be fetched from {refusal(where, error)}") from None


def bring(bucket: Bucket, folder: Path, step: str, prefix: str) -> None:
    """As `fetch`, of a prefix; an error of the store is what its library raises."""
    path, place = folder / "checkpoints" / step, f"runs/{folder.name}/{prefix}"
    if source(folder, step) == prefix:
        return
    draft = path.with_name(f".{step}-{secrets.token_hex(4)}")
    try:
        marker = bucket.get([f"{place}/{COMMIT}"])
        if not marker:
            raise LabError(f"run {folder.name!r}: its checkpoint {step} was not committed, or is gone: ask again")
        for called, size in json.loads(next(iter(marker.values())))["files"].items():
            _fetch(bucket, f"{place}/{called}", draft, called, size)
        (draft / MARKER).write_text(prefix)
        close_to_others(draft)
        if path.exists() and source(folder, step) != prefix:  # of the same step, before it was saved anew
            path.rename(draft.with_suffix(".old"))
        with contextlib.suppress(OSError):  # another process was as fast
            draft.rename(path)
    finally:
        for left in (draft, draft.with_suffix(".old")):
            shutil.rmtree(left, ignore_errors=True)


def _fetch(bucket: Bucket, name: str, draft: Path, called: str, size: int) -> None:
    if called.startswith("/") or ".." in PurePosixPath(called).parts:
        raise LabError(f"{name!r} is no name of a checkpoint's file")
    path = draft / called
    path.parent.mkdir(parents=True, exist_ok=True)
    bucket.download(name, path)
    if path.stat().st_size != size:
        raise LabError(f"{name!r} is not whole: {path.stat().st_size} of {size} bytes")
