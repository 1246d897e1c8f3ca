"""The table's entries for models of users and items: their options, checked; the models themselves are next door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .fitting import Dropout, Size, takes

if TYPE_CHECKING:
    from torch import nn

PAIRS = "pairs of a user and an item, by number"
FOR = ("recommendation", "regression")


def pairs(shape: tuple[int, ...], classes: int, vocabulary: int) -> bool:
    """Whether samples are pairs of whole numbers, (2,)."""
    return vocabulary > 0 and shape == (2,)


@takes(PAIRS, pairs, chain=False, tasks=FOR)
def factorisation(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    factors: Annotated[int, Field(ge=0)] = 32,
    dropout: Dropout = 0.0,
    mean: float = 3.5,
) -> nn.Module:
    """
    Matrix factorisation with biases: how good an item is, and how well it goes with the user's taste.

    For ratings (task='regression') and for what a user takes (task='recommendation'). See
    `lepton_lab.models.factorisation`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: a sample is a user and an item, whose numbers are below the
        vocabulary.
    factors
        Numbers that describe a taste, and an item; 0 leaves the biases alone.
    dropout
        Fraction of the products of factors that each training step leaves out, from 0 to below 1: it keeps the factors
        of those with few samples small.
    mean
        The score of one who is like all: the ratings' mean, about. It is not learned, and means nothing where items are
        ranked.

    Raises
    ------
    SpecError
        If samples are no pairs of whole numbers.
    """
    from .factorisation import Factorisation

    return Factorisation(vocabulary, factors, dropout, mean)


@takes(PAIRS, pairs, chain=False, dealt="hidden", tasks=FOR)
def neumf(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    factors: Size = 16,
    hidden: Size = 32,
    dropout: Dropout = 0.0,
    mean: float = 3.5,
) -> nn.Module:
    """
    NeuMF: a product of factors beside an MLP of a user's and an item's factors.

    For ratings (task='regression') and for what a user takes (task='recommendation'). See `lepton_lab.models.neumf`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of `factorisation`.
    factors
        Numbers that describe a user, and an item, of the product, and as many of the MLP; at least 1.
    hidden
        Units of the MLP's first layer, at least 1; its second has half as many.
    dropout
        Fraction of what the last layer looks at that each training step leaves out, from 0 to below 1.
    mean
        As of `factorisation`: where scores begin.

    Raises
    ------
    SpecError
        If samples are no pairs of whole numbers.
    """
    from .neumf import NeuMF

    return NeuMF(vocabulary, factors, hidden, dropout, mean)
