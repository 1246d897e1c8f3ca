"""Refuses an image whose torch is built for CUDA, or whose packages take more room than Binder bears."""

from __future__ import annotations

import sys
from importlib import metadata

from packaging.requirements import Requirement

MOST = 2.0e9
"""Bytes on disk of all that `postBuild` installs."""
INSTALLED = "lepton-lab[app,compress,explain,search]"


def closure(requirement: str) -> set[str]:
    """Names of the distributions that a requirement brings, its own included."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            key = (wanted.name.lower().replace("_", "-"), extra)
            if key in found:
                continue
            found.add(key)
            needs = map(Requirement, metadata.requires(wanted.name) or [])
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def size(name: str) -> int:
    """Bytes on disk of a distribution's files."""
    files = metadata.files(name) or []
    places = (file.locate() for file in files)
    return sum(place.stat().st_blocks * 512 for place in places if place.is_file())


def complaints(sizes: dict[str, int], torch: str) -> list[str]:
    """What is wrong with a set of packages, given their bytes and the version of torch, in one sentence each."""
    said = []
    if not torch.endswith("+cpu"):
        said.append(f"torch {torch} is not the build for the CPU; install it with uv's --torch-backend cpu")
    if (total := sum(sizes.values())) > MOST:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        named = ", ".join(f"{name} {sizes[name] / 1e9:.2f} GB" for name in largest)
        said.append(f"the packages take {total / 1e9:.2f} GB, of {MOST / 1e9} GB at most; the largest are {named}")
    return said


def main() -> int:
    """Print what is installed takes; the exit code is 1 if something is wrong with it."""
    sizes = {name: size(name) for name in closure(INSTALLED)}
    said = complaints(sizes, metadata.version("torch"))
    print(f"{len(sizes)} packages, {sum(sizes.values()) / 1e9:.2f} GB on disk", *said, sep="\n")
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
