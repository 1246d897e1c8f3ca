"""Checkpoints on a store: each under a fresh prefix, a marker last; only what has one is read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path, PurePosixPath

from ...errors import LabError
from ..trust import close_to_others
from .bucket import Bucket, refusal
from .link import pulled

COMMIT = "COMMIT.json"


def stage(path: Path, place: Path) -> Path:
    """Hold a checkpoint's files, so that their going up outlasts their removal; costs no room."""
    staged = place / f".{path.name}-{secrets.token_hex(4)}"
    shutil.copytree(path, staged, copy_function=os.link)
    return staged


def upload(bucket: Bucket, run: str, staged: Path) -> str:
    """Put what was staged under a prefix of its own, commit it, and return the prefix; the staged is gone then."""
    prefix = f"checkpoints/{staged.name.removeprefix('.')}"
    try:
        sizes = {}
        for path in sorted(path for path in staged.rglob("*") if path.is_file()):
            called = path.relative_to(staged).as_posix()
            sizes[called] = path.stat().st_size
            bucket.upload(f"{run}/{prefix}/{called}", path)
        bucket.put(f"{run}/{prefix}/{COMMIT}", json.dumps({"files": sizes}).encode())
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    _sweep(bucket, run)
    return prefix


def _sweep(bucket: Bucket, run: str) -> None:
    """Remove what was cut off: a run has one upload at a time, which is over."""
    for name in bucket.names(f"{run}/checkpoints"):
        if COMMIT not in bucket.names(f"{run}/checkpoints/{name}"):
            bucket.remove(f"{run}/checkpoints/{name}")


def withdraw(bucket: Bucket, run: str, prefix: str) -> None:
    """Remove a checkpoint, its marker first."""
    bucket.remove(f"{run}/{prefix}/{COMMIT}")
    bucket.remove(f"{run}/{prefix}")


def fetch(folder: Path, step: str, bucket: Bucket | None = None) -> None:
    """
    Bring a checkpoint of a run of another machine down, into its place, where it is not there yet.

    Raises
    ------
    LabError
        If it was not committed, is not whole, or the store can't be reached.
    """
    record, path = pulled(folder), folder / "checkpoints" / step
    if record is None or path.exists() or step not in record["saved"]:
        return
    bucket, prefix = bucket or Bucket(record["address"]), f"runs/{folder.name}/{record['saved'][step]}"
    draft = path.with_name(f".{step}-{secrets.token_hex(4)}")
    try:
        marker = bucket.get([f"{prefix}/{COMMIT}"])
        if not marker:
            raise LabError(f"run {folder.name!r}: its checkpoint {step} was not committed, or is gone: ask again")
        for called, size in json.loads(next(iter(marker.values())))["files"].items():
            _fetch(bucket, f"{prefix}/{called}", draft, called, size)
        close_to_others(draft)
        with contextlib.suppress(OSError):  # another process was as fast
            draft.rename(path)
    except LabError:
        raise
    except Exception as error:
        raise LabError(f"a checkpoint can't be fetched from {refusal(record['address'], error)}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fetch(bucket: Bucket, name: str, draft: Path, called: str, size: int) -> None:
    if called.startswith("/") or ".." in PurePosixPath(called).parts:
        raise LabError(f"{name!r} is no name of a checkpoint's file")
    path = draft / called
    path.parent.mkdir(parents=True, exist_ok=True)
    bucket.download(name, path)
    if path.stat().st_size != size:
        raise LabError(f"{name!r} is not whole: {path.stat().st_size} of {size} bytes")
