"""Published data files: where each may be found under the data root, where it is downloaded from, what it must hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import SpecError
from ..files import write_bytes

TIMEOUT = 30  # seconds that a mirror may stay silent
CHUNK = 1 << 20  # bytes

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Source:
    """One published data set."""

    folder: str
    """Folder of the unpacked files, under the data root (as torchvision lays them)."""
    packed: str
    """Folder of the archives, under the data root."""
    mirrors: tuple[str, ...]
    """URLs to which an archive's name is appended, tried in this order."""
    archives: dict[str, dict[str, str]]
    """Archive name (or the file's own) -> name of each file in it -> MD5 of that file's contents, unpacked."""
    format: str
    """Of its files, by the name of the module that reads them."""

    def files(self) -> dict[str, str]:
        """Name of each file -> name of the archive that it is published in."""
        return {file: archive for archive, files in self.archives.items() for file in files}


def _idx(*sums: str) -> dict[str, dict[str, str]]:
    return {f"{file}.gz": {file: md5} for file, md5 in zip(IDX_FILES, sums, strict=True)}


SOURCES = {
    "mnist": Source(
        folder="MNIST/raw",
        packed="MNIST/raw",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        archives=_idx(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        format="idx",
    ),
    "fashion_mnist": Source(
        folder="FashionMNIST/raw",
        packed="FashionMNIST/raw",
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        archives=_idx(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        format="idx",
    ),
    "cifar10": Source(
        folder="cifar-10-batches-py",
        packed=".",
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        archives={
            "cifar-10-python.tar.gz": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            }
        },
        format="cifar",
    ),
    "tinyshakespeare": Source(
        folder="tinyshakespeare",
        packed="tinyshakespeare",
        mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
        archives={"input.txt": {"input.txt": "6fb458f1232090904fb40fe944165e91"}},
        format="text",
    ),
}


def find(name: str, root: Path, file: str) -> Path | None:
    """Where a file of a data set lies: unpacked, or the archive that holds it, or None if neither is there."""
    source = SOURCES[name]
    places = (root / source.folder / file, root / source.packed / source.files()[file])
    return next((path for path in places if path.is_file()), None)


def fetch(name: str, root: Path) -> dict[str, Path]:
    """
    Every file of a data set: found under the data root, or downloaded into it.

    Progress goes to stderr. A download is checked by the MD5 of its contents and appears under its name only when it
    is whole; of several processes that ask at once, one downloads and the others wait. Files that were found are not
    hashed, which would cost a tenth of a second each start: their readers check them.

    Returns the path of each file by its name, or that of the archive that holds it. A file that is missing and can't be
    downloaded is a SpecError.
    """
    source = SOURCES[name]
    for archive, files in source.archives.items():
        if all(find(name, root, file) for file in files):
            continue
        require(root)
        folder = root / source.folder
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _alone(root):
                if not all(find(name, root, file) for file in files):
                    _download(name, archive, folder, root)
        except OSError as error:
            packed = "" if archive in files else f", nor {archive} in {root / source.packed}"
            raise SpecError(
                f"dataset={name!r}: no {', '.join(files)} in {folder}{packed}, and downloading failed ({error}); put "
                f"the published files there, or set LEPTON_LAB_DATA to a folder that holds {source.folder}"
            ) from None
    return {file: path for file in source.files() if (path := find(name, root, file))}


def require(root: Path) -> None:
    """Refuse a data root that a user named and that is not there: more likely a slip than a wish for a new folder."""
    if os.environ.get("LEPTON_LAB_DATA") and not root.is_dir():
        raise SpecError(f"LEPTON_LAB_DATA={str(root)!r}: there is no such folder; create it, or unset the variable")


def damaged(path: Path, why: str) -> SpecError:
    """The one sentence for a data file that is not what it should be."""
    return SpecError(
        f"data file {path} can't be used: {why}; delete it to have it downloaded again, or put the published file there"
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released when the handle closes, also by a crash
        yield
    finally:
        os.close(handle)


def _download(name: str, archive: str, folder: Path, root: Path) -> None:
    """Try each mirror, and make the folder for what came; OSError with every mirror's reason if none has it."""
    reasons = []
    for mirror in SOURCES[name].mirrors:
        try:
            with tempfile.TemporaryFile(dir=root) as handle:
                _copy(mirror + archive, handle, f"{name}: {archive}")
                for file, contents in _members(handle, archive, SOURCES[name].archives[archive]):
                    folder.mkdir(parents=True, exist_ok=True)
                    write_bytes(folder / file, contents)
            return
        except (OSError, EOFError, HTTPException, zlib.error, tarfile.TarError) as error:
            reasons.append(f"{mirror}: {error or type(error).__name__}")
    raise OSError("; ".join(reasons))


def _copy(url: str, handle: IO[bytes], label: str) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as reply:
        total, done, shown = int(reply.headers.get("Content-Length") or 0), 0, -1
        while chunk := reply.read(CHUNK):
            handle.write(chunk)
            done += len(chunk)
            tenth = 10 * done // total if total else done // (10 * CHUNK)
            if tenth != shown:
                print(f"{label}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", file=sys.stderr, flush=True)
                shown = tenth
    handle.seek(0)


def _members(handle: IO[bytes], archive: str, files: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each wanted file of an archive with its contents, once their MD5 is right."""
    if archive.endswith(".tar.gz"):
        members = untar(handle, set(files))
    else:
        whole = handle.read()
        members = iter([(next(iter(files)), zlib.decompress(whole, wbits=31) if archive.endswith(".gz") else whole)])
    for file, contents in members:
        if wrong := unlike(contents, files[file]):
            raise OSError(f"{file} {wrong}")
        yield file, contents


def unlike(contents: bytes, md5: str) -> str:
    """Why contents are not the published ones, or nothing."""
    actual = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    return "" if actual == md5 else f"has MD5 {actual}, not the published {md5}"


def untar(handle: IO[bytes], files: set[str]) -> Iterator[tuple[str, bytes]]:
    """Contents of the wanted files of a .tar.gz in one pass, in its order; TarError if one is not in it."""
    missing = set(files)
    with tarfile.open(fileobj=handle, mode="r|gz") as tar:
        for entry in tar:
            file = PurePosixPath(entry.name).name
            stream = tar.extractfile(entry) if file in missing and entry.isfile() else None
            if stream is not None:
                missing.remove(file)
                yield file, stream.read()
    if missing:
        raise tarfile.TarError(f"it holds no {', '.join(sorted(missing))}")
