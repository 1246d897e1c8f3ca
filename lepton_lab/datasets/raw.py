"""Texts with labels as they are, for a tokenizer of one's own: `lab.texts`."""

from __future__ import annotations

from typing import Any

from ..files import data_root
from ..tables import pick
from . import dialogues, mails, reviews
from .wording import Texts

READERS = {"sst2": reviews.texts, "spam": mails.texts, "chatterbot": dialogues.texts}


def texts(name: str, seed: int = 0, **options: Any) -> Texts:
    """
    The texts of a data set with their labels, in the splits that a run with this seed has.

    Parameters
    ----------
    name
        "sst2", "spam" or "chatterbot".
    seed
        As of a Spec.
    **options
        Those of the data set that choose texts: `part` and `grouped` of spam, `distinct` of chatterbot.

    Returns
    -------
    Texts
        `train`, `val` and `test`, each a list of texts and one of labels, and `classes`, the labels' names.

    Raises
    ------
    SpecError
        If the name is unknown, or files are missing and can't be had.
    """
    return pick(READERS, name, "texts")(data_root(), seed, **options)
