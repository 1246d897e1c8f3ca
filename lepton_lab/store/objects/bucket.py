"""Objects under one address, by fsspec: put where there is none, got, listed; and why a store can't be used."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ...errors import LabError, needs

PATIENCE = 600.0  # seconds in which one that can't be reached is tried by who must wait for it
AGAIN = 1.0  # seconds between two tries
SILENT = "it does not answer"
SECONDS = 20  # until a store that says nothing counts as silent
T = TypeVar("T")
UNSHARED = "memory"  # a store of fsspec that other processes don't see


class Bucket:
    """
    Objects by their names under an address.

    Raises
    ------
    LabError
        If the address is none that fsspec can open.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address, kind = address, address.split("://")[0]
        options: dict[str, Any] = {"use_listings_cache": False}
        if kind in ("s3", "s3a"):
            needs(f"the store {address!r}", "s3fs")
            timeouts = {"connect_timeout": 5, "read_timeout": SECONDS, "retries": {"max_attempts": 1}}
            options["config_kwargs"] = timeouts
            options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._disk = kind in ("file", "local")
        if self._disk:
            options["auto_mkdir"] = True
        if kind == UNSHARED:
            raise LabError(f"the store {address!r} is seen by one process alone: take s3:// or file://")
        try:
            self.files, self._root = fsspec.core.url_to_fs(address, **options)
        except (ImportError, ValueError) as error:
            raise LabError(f"the store {address!r} can't be opened ({error}): take s3:// or file://") from None
        if hasattr(self.files, "retries"):
            self.files.retries = 1  # who asks tries again, and says so meanwhile

    def put(self, name: str, body: bytes) -> None:
        """Make an object; FileExistsError where there is one of that name."""
        if self._disk:
            self._link(name, io.BytesIO(body))
        else:
            self.files.pipe_file(self._path(name), body, mode="create")

    def upload(self, name: str, path: Path) -> None:
        """Make an object of a file; FileExistsError where there is one of that name."""
        if self._disk:
            with path.open("rb") as file:
                self._link(name, file)
        else:
            self.files.put_file(str(path), self._path(name), mode="create")

    def _link(self, name: str, source: BinaryIO) -> None:
        """Make an object on a disk, which is whole from the moment it is there."""
        path = Path(self._path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as draft:
            shutil.copyfileobj(source, draft)
            draft.flush()
            os.link(draft.name, path)

    def download(self, name: str, path: Path) -> None:
        """Make a file of an object."""
        self.files.get_file(self._path(name), str(path))

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """The objects that there are, fetched beside each other."""
        paths = {self.files._strip_protocol(self._path(name)): name for name in names}
        if not paths:
            return {}
        bodies = self.files.cat(list(paths), on_error="return")
        for body in bodies.values():
            if isinstance(body, BaseException) and not isinstance(body, FileNotFoundError):
                raise body
        return {paths[path]: body for path, body in bodies.items() if isinstance(body, bytes)}

    def names(self, folder: str) -> list[str]:
        """The last parts of names under a folder, in order; [] where there is none."""
        try:
            listed = self.files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in listed)
        return sorted(name for name in names if name != folder and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove an object, or all under a folder, where there is any."""
        with contextlib.suppress(FileNotFoundError):
            self.files.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


@functools.cache
def usable(address: str) -> Bucket:
    """
    The bucket of an address, once it has shown that it can be written, and that it refuses a second object of a name.

    Raises
    ------
    LabError
        In a sentence that says what to do.
    """
    bucket = Bucket(address)
    name = f"probe-{secrets.token_hex(8)}"
    try:
        bucket.put(name, b"")
        try:
            bucket.put(name, b"")
        except FileExistsError:
            bucket.remove(name)
            return bucket
        bucket.remove(name)
    except Exception as error:  # of any library that fsspec builds on
        bucket.files.clear_instance_cache()  # which keeps the credentials that were refused
        unknown = isinstance(error, (TypeError, NotImplementedError)) or "not implemented" in str(error)
        if not unknown:
            raise LabError(f"runs can't be kept at {refusal(address, error)}") from None
    raise LabError(
        f"runs can't be kept at {address!r}: it has no conditional writes (If-None-Match), without which two machines "
        "could write over each other's; take another store"
    )


def patiently(address: str, do: Callable[[], T]) -> T:
    """
    What a function returns that asks a store, which is tried again and again where it can't be reached.

    Raises
    ------
    LabError
        In a sentence that says why, after PATIENCE seconds.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except LabError:
            raise
        except Exception as error:  # of any library that fsspec builds on
            if time.monotonic() > until:
                raise LabError(f"it was tried in vain for {PATIENCE:.0f} s: {refusal(address, error)}") from None
            print(f"tried again: {refusal(address, error)}", file=sys.stderr, flush=True)
            time.sleep(AGAIN)


def refusal(address: str, error: BaseException) -> str:
    """Why a store could not be reached, as a sentence that begins with its address."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if "Credential" in kind or "Token" in kind:
        why = "there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    elif isinstance(error, PermissionError):
        why = f"it refuses these credentials ({text}); ask its owner for the right to read, write, list and delete"
    elif isinstance(error, FileNotFoundError):
        why = "there is no such bucket; make it, or correct the address"
    elif "Connect" in kind or "Timeout" in kind or isinstance(error, (ConnectionError, TimeoutError)):
        why = f"{SILENT}; see to the network, and to AWS_ENDPOINT_URL where that is set"
    else:
        why = f"{kind}: {text}"
    return f"{address!r}: {why}"
