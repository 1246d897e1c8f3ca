"""Bytes of files, by ranges: on disk, over HTTP, or by fsspec on an object store; what fails is tried again."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ...errors import SpecError, needs

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each new try of what failed
SILENCE = 20  # seconds that a server may say nothing
T = TypeVar("T")


class Gone(Exception):
    """There is no such file."""


class Source(Protocol):
    """Where files lie; names are their addresses in full."""

    far: bool
    """Whether reading waits for a network."""

    def read(self, name: str, begin: int, end: int) -> bytearray:
        """Bytes of a file from `begin` up to `end`, or up to its own end."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def stamp(self, name: str) -> str:
        """What tells a file from another one that was there before."""

    def names(self, folder: str) -> list[str]:
        """The files below a folder, in order; none where these can't be listed."""


def source(address: str) -> Source:
    """What reads an address: a path, http(s)://, or another that fsspec knows."""
    kind, mark, _ = address.partition("://")
    if not mark:
        return Disk()
    return Web() if kind in ("http", "https") else Objects(address)


class Disk:
    """Files of this machine."""

    far = False

    def read(self, name: str, begin: int, end: int) -> bytearray:
        """As of every Source."""
        try:
            with open(name, "rb", buffering=0) as file:  # noqa: PTH123  # one for each block: no Path is made
                body = bytearray(max(min(end, os.fstat(file.fileno()).st_size) - begin, 0))
                done = 0
                while done < len(body) and (count := os.preadv(file.fileno(), [memoryview(body)[done:]], begin + done)):
                    done += count
        except FileNotFoundError:
            raise Gone(name) from None
        return body[:done] if done < len(body) else body

    def size(self, name: str) -> int:
        """As of every Source."""
        try:
            return Path(name).stat().st_size
        except FileNotFoundError:
            raise Gone(name) from None

    def stamp(self, name: str) -> str:
        """As of every Source."""
        return str(Path(name).stat().st_mtime_ns)

    def names(self, folder: str) -> list[str]:
        """As of every Source."""
        return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


class Web:
    """Files of a server that gives ranges (RFC 9110, section 14)."""

    far = True

    def read(self, name: str, begin: int, end: int) -> bytearray:
        """As of every Source."""

        def got() -> bytearray:
            asked = {"Range": f"bytes={begin}-{end - 1}"}
            with self._opened(name, asked) as reply:
                if reply.status == 200 and (begin or (reply.length or 0) > end - begin):
                    raise SpecError(
                        f"dataset: the server of {name} gives files whole alone, where shards are read by parts; take "
                        "one that serves ranges, or copy the shards to this machine"
                    )
                body = bytearray(reply.read(end - begin))
                left = reply.length if reply.status != 200 else 0
            if left:
                raise ConnectionError("the answer was cut short")
            return body

        return again(name, got)

    def size(self, name: str) -> int:
        """As of every Source."""
        return int(self._headers(name).get("Content-Length") or 0)

    def stamp(self, name: str) -> str:
        """As of every Source."""
        headers = self._headers(name)
        return str(headers.get("ETag") or headers.get("Last-Modified") or "")

    def names(self, folder: str) -> list[str]:
        """None: HTTP has no listing."""
        return []

    def _headers(self, name: str) -> Any:
        def got() -> Any:
            with self._opened(name, method="HEAD") as reply:
                return reply.headers

        return again(name, got)

    def _opened(self, name: str, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
        try:
            request = urllib.request.Request(name, headers=headers or {}, method=method)
            return urllib.request.urlopen(request, timeout=SILENCE)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise Gone(name) from None
            if error.code < 500 and error.code not in (408, 416, 429):
                raise SpecError(f"dataset: {name} can't be read: HTTP {error.code} {error.reason}") from None
            raise ConnectionError(f"HTTP {error.code} {error.reason}") from None


class Objects:
    """Objects of a store, by fsspec: its credentials are found as that library finds them."""

    far = True

    def __init__(self, address: str) -> None:
        self._address = address
        self._files()

    def _files(self) -> Any:
        """Of this process: fsspec makes another one in a forked process, since none goes on there."""
        return filesystem(self._address)

    def read(self, name: str, begin: int, end: int) -> bytearray:
        """As of every Source."""
        return again(name, lambda: bytearray(self._files().cat_file(name, start=begin, end=end)))

    def size(self, name: str) -> int:
        """As of every Source."""
        return int(again(name, lambda: self._files().info(name))["size"])

    def stamp(self, name: str) -> str:
        """As of every Source."""
        about = again(name, lambda: self._files().info(name))
        return str(about.get("ETag") or about.get("mtime") or about.get("LastModified") or "")

    def names(self, folder: str) -> list[str]:
        """As of every Source."""
        files = self._files()
        try:
            return sorted(files.unstrip_protocol(name) for name in again(folder, lambda: files.find(folder)))
        except Gone:
            return []


def filesystem(address: str) -> Any:
    """The file system of an address, which fsspec keeps by process; SpecError of an unknown one."""
    import fsspec

    kind, options = address.partition("://")[0], dict[str, Any]()
    if kind in ("s3", "s3a"):
        needs(f"the address {address!r}", "s3fs")
        timeouts = {"connect_timeout": 5, "read_timeout": SILENCE, "retries": {"max_attempts": 1}}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options = {"config_kwargs": timeouts, "endpoint_url": endpoint, "use_listings_cache": False}
    elif kind in ("file", "local"):
        options = {"auto_mkdir": True}
    try:
        files = fsspec.filesystem(kind, **options)
    except (ImportError, ValueError) as error:
        raise SpecError(
            f"{address!r} can't be opened ({error}); take a path, http://, s3:// or another that fsspec knows"
        ) from None
    if hasattr(files, "retries"):
        files.retries = 1  # who asks tries again
    return files


def again(name: str, work: Callable[[], T]) -> T:
    """What reading a file gives, which is tried again where it fails; SpecError in a sentence that names the file."""
    for pause in (*PAUSES, None):
        try:
            return work()
        except (Gone, SpecError):
            raise
        except FileNotFoundError:
            raise Gone(name) from None
        except Exception as error:  # of any library that fsspec builds on
            why = " ".join(str(error).split()) or type(error).__name__
            if pause is None or isinstance(error, PermissionError) or "Credential" in type(error).__name__:
                raise SpecError(f"dataset: {name} can't be read: {why}; see to the network and to its server") from None
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")
