"""Archives of packages, downloaded by the person's own pip, npm or apt-get, whose mirrors and proxies hold."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..host import bound
from .sources import Package

UNREACHED = ("Retrying", "Connection", "ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "Could not resolve", "ProxyError")
"""What pip, npm and apt-get say where they reach no index."""
ABSENT = ("No matching distribution", "E404", "ETARGET", "Unable to locate package", "was not found")
"""What they say of a release that an index does not have."""
PIP = ("--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=1")
NPM = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=100")
"""Else npm waits for minutes where it reaches nothing, and does not say why."""


def _pip(package: Package) -> list[str]:
    # Without wheels alone, pip would run the set-up code of a source archive.
    return [sys.executable, "-m", "pip", "download", "--no-deps", *PIP, f"{package.name}=={package.version}"]


def _npm(package: Package) -> list[str]:
    return ["npm", "pack", "--ignore-scripts", *NPM, f"{package.name}@{package.version}"]


def _apt(package: Package) -> list[str]:
    return ["apt-get", "download", f"{package.name}={package.version}"]


COMMANDS: dict[str, Callable[[Package], list[str]]] = {"pip": _pip, "npm": _npm, "apt": _apt}


def command(package: Package) -> str:
    """The one command that downloads a package's archive into the folder where it is called."""
    first, *rest = COMMANDS[package.registry](package)
    return " ".join(["python" if first == sys.executable else first, *(word for word in rest if word not in PIP + NPM)])


def download(package: Package, folder: Path) -> Path:
    """
    The archive of a package, in a folder that holds nothing else; it is not installed, and nothing of it is run.

    An OSError says in a part of a sentence why it can't be had.
    """
    words, label = COMMANDS[package.registry](package), f"{package.name} {package.version}"
    if package.registry == "pip" and importlib.util.find_spec("pip") is None:
        raise OSError(f"{sys.executable} has no pip (python -m ensurepip brings it)")
    if shutil.which(words[0]) is None:
        raise OSError(f"{words[0]} is not installed")
    # In a folder of its own, where no file of the user's can be taken for a module.
    code, said = bound(words, folder)
    if code == 0 and (files := [*folder.iterdir()]):
        return files[0]
    raise _reason(label, said)


def _reason(label: str, output: str) -> OSError:
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if any(sign in output for sign in UNREACHED):
        return OSError("it reaches no package index")
    if any(sign in output for sign in ABSENT):
        return OSError(f"the index that it asks has no {label}")
    lines = [line for line in output.splitlines() if line.strip()]
    return OSError(lines[-1].strip()[:200] if lines else "it failed without a word")
