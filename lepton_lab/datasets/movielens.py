"""MovieLens-100k: which film which user gave how many stars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .base import Data, holds, shuffled
from .files import beginning, damaged, fetch

if TYPE_CHECKING:
    import numpy as np

USERS, FILMS, RATINGS = 943, 1682, 100_000


@holds((2,), 0, FILMS, tasks=("recommendation", "regression"), samples=RATINGS)
def movielens_100k(root: Path, seed: int, *, split: Literal["last", "random"] = "last") -> Data:
    """
    Films that people rated: 100,000 ratings of 1,682 films by 943 users (MovieLens-100k).

    Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets, 2015. Looked for in `root/ml-100k` (`u.data` and
    `u.item`, as GroupLens lays them), else downloaded; the package recbole carries the same ratings. They are for
    research, to be cited and not passed on. `titles` gives the films' names.

    Data: x int64 (N, 2), user and film by their published numbers less 1; y float32 (N,), 1 to 5 stars.
    task='recommendation' asks which film a user takes, task='regression' how many stars it gets.

    Parameters
    ----------
    split
        "last": each user's last film by time is for testing and the one before for validation, 943 each; "random": of
        the ratings a tenth each.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had.
    """
    import torch

    table = read(fetch("movielens_100k", root)["u.data"])
    parts = [torch.from_numpy(part) for part in _last(table)] if split == "last" else shuffled(RATINGS, seed, 0.1, 0.1)
    x, y = torch.from_numpy(table[:, :2] - 1), torch.from_numpy(table[:, 2]).float()
    train, val, test = ((x[part], y[part]) for part in parts)
    return Data(train, val, test, (2,), [], vocabulary=FILMS)


def titles(root: Path) -> list[str]:
    """Each film's title, by its number in `movielens_100k`."""
    path = fetch("movielens_100k", root)["u.item"]
    lines = path.read_text("latin-1").splitlines()
    lines = [line for line in lines if not line.startswith("item_id:")]
    parts = [line.split("|" if "|" in line else "\t") for line in lines]
    if len(parts) != FILMS or any(len(part) < 2 for part in parts):
        raise damaged(path, f"it holds {len(parts):,} films, and {FILMS:,} are published")
    return [title for _, title, *_ in parts]


def read(path: Path) -> np.ndarray:
    """The ratings, int64 (100,000, 4): user, film, stars, seconds since 1970; a SpecError of what is no such file."""
    import numpy as np

    glance(path)
    try:
        text = path.read_text("latin-1").split("\n", 1)
        table = np.array((text[1] if text[0].startswith("user_id:") else "\n".join(text)).split(), np.int64)
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    if table.size != 4 * RATINGS:
        raise damaged(path, f"it holds {table.size // 4:,} ratings, and {RATINGS:,} are published")
    table = table.reshape(-1, 4)
    if table.min() < 1 or (table[:, :3].max(0) > (USERS, FILMS, 5)).any():
        raise damaged(path, f"its users, films and stars go to {table[:, :3].max(0).tolist()}")
    return table


def glance(path: Path) -> None:
    """Refuse a file of ratings, or of films, by its first line."""
    line = beginning(path, 1000).partition(b"\n")[0]
    if line.count(b"\t") != 3 and b"|" not in line:
        raise damaged(path, f"it begins with {line[:40]!r}, and not as MovieLens has it")


def _last(table: np.ndarray) -> list[np.ndarray]:
    """Rows of all but the last two ratings of each user, of the one before the last, and of the last."""
    import numpy as np

    order = np.lexsort((np.arange(len(table)), table[:, 3], table[:, 0]))  # of one second the later row is the later
    users = table[order, 0]
    last = np.flatnonzero(np.append(users[1:] != users[:-1], True))
    rest = np.setdiff1d(np.arange(len(order)), np.concatenate([last, last - 1]))
    return [np.sort(order[part]) for part in (rest, last - 1, last)]
