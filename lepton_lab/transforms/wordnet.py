"""WordNet, where it is installed: which English words may stand in for which."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..errors import SpecError
from ..files import data_root

PLACES = ("/usr/share/wordnet", "/usr/share/wordnet-3.0", "/usr/local/WordNet-3.0/dict")
FILES = ("noun", "verb", "adj", "adv")


@lru_cache(maxsize=1)
def synonyms() -> dict[str, tuple[str, ...]]:
    """
    The synonyms of each word that has any, in its commonest meaning, in alphabetical order; a second's work, once.

    Source of the format: WordNet's manual, wndb(5WN). A SpecError where no WordNet is found.
    """
    folder = _folder()
    known: dict[str, set[str]] = {}
    for kind in FILES:
        synsets = {}
        for line in _lines(folder / f"data.{kind}"):
            fields = line.split(" ", 4 + 2 * 30)
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            synsets[fields[0]] = [word.split("(")[0].lower() for word in words]
        for line in _lines(folder / f"index.{kind}"):
            fields = line.split()
            first = fields[6 + int(fields[3])]  # meanings come by how common they are, after kinds of pointers
            others = {word for word in synsets.get(first, ()) if word.isalpha() and word != fields[0]}
            if others and fields[0].isalpha():
                known.setdefault(fields[0], set()).update(others)
    return {word: tuple(sorted(others)) for word, others in known.items()}


def _lines(path: Path) -> list[str]:
    """Lines of a file but for its licence, which is indented."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != " "]
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"transforms='synonyms': {path} can't be read ({error}); install WordNet again") from None


def _folder() -> Path:
    folders = [data_root() / "wordnet", *map(Path, PLACES)]
    for folder in folders:
        if (folder / "index.noun").is_file():
            return folder
    raise SpecError(
        "transforms='synonyms': needs WordNet's files, which are not installed (on Debian and Ubuntu: apt-get install "
        f"wordnet-base), or put data.noun, index.noun and their kin into {folders[0]}"
    )
