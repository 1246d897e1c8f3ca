"""Whose files these are: what was pickled is loaded only where its owner alone could have put it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from ..errors import LabError
from ..files import remote
from .objects import link

OTHERS = 0o022  # that the group, and that everybody may write


def require_own(path: Path) -> None:
    """
    Refuse a file of a run that somebody else made, or could have changed: unpickling it runs what it says.

    Asked of the file and of each folder up to the run's. A folder above that may be anybody's: whoever puts another run
    in place of ours is the owner of that run.

    Raises
    ------
    LabError
        In a sentence that says whose it is or who could have changed it, and what to do.
    """
    top = next((folder for folder in path.parents if (folder / "spec.json").exists()), path.parent)
    if (address := link.address(top)) not in (None, remote()):
        raise LabError(
            f"run {top.name!r} comes from {address!r}, and what was pickled in it would run its writers' code here; if "
            f"you trust all who can write there, set LEPTON_LAB_HOME={address!r}"
        )
    for place in (path, *path.parents):
        stat = place.stat()
        if stat.st_uid != os.geteuid():
            raise LabError(
                f"{str(place)!r} belongs to {_user(stat.st_uid)}, and what was pickled in it would run their code "
                f"here; if you trust them, make a copy of your own: cp -r {str(top)!r} into your LEPTON_LAB_HOME's runs"
            )
        if stat.st_mode & OTHERS:
            raise LabError(
                f"{str(place)!r} can be written by others, and what was pickled in it would run their code here; if "
                f"you trust what is in it, take that right away: chmod -R go-w {str(top)!r}"
            )
        if place == top:
            return


def close_to_others(folder: Path) -> None:
    """Let nobody else write into a folder, nor into what is in it."""
    for place in (folder, *folder.rglob("*")):
        place.chmod(place.stat().st_mode & ~OTHERS)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
