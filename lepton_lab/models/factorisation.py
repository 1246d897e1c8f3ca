"""
Matrix factorisation: of a user and an item, both by number, a score.

Legend of the shape comments: B samples, M items of each, F factors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import SpecError

SPREAD = 0.05  # standard deviation of factors at the start, whose products are then far below a star


class Pairs(nn.Module):
    """
    What is called with users and their items, or with pairs of both, as the two tasks do.

    Parameters
    ----------
    count
        Numbers that users and items have, from 0 to below it.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Users (B,) and items (B, M) -> scores (B, M); or pairs of one user and one item (B, 2) -> (B, 1)."""
        if items is None:
            users, items = users[:, 0], users[:, 1:]
        for numbers in (users, items):
            self._knows(numbers)
        return self.score(users[:, None], items)

    def _knows(self, numbers: Tensor) -> None:
        """Refuse numbers outside of the tables, with a SpecError: a GPU would end the process."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or numbers.is_meta or not numbers.numel():
            return
        for number in numbers.aminmax():
            if not 0 <= number < self.count:
                raise SpecError(
                    f"{number} is no user or item: the model knows numbers from 0 to {self.count - 1}, of which it "
                    "scores those that it was not trained on too"
                )

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, 1) and (B, M) -> (B, M)."""
        raise NotImplementedError


class Factorisation(Pairs):
    """
    A mean, how kind the user is, how good the item is, and how well both go together: m + b_u + b_i + p_u . q_i.

    After Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems, Computer 42 (8), 2009. A
    user or an item without samples keeps a bias of 0 and factors near 0, so that its scores are those of the biases.

    Parameters
    ----------
    count
        As of `Pairs`.
    factors
        F, numbers that make up a taste; 0 leaves the biases alone.
    dropout
        Fraction of the products of factors that a training step leaves out. In the mean over what is left out it adds
        dropout / (1 - dropout) * sum of p^2 q^2 to a rating's squared error (Cavazza and others, AISTATS 2018).
    mean
        m, which is not learned.
    """

    def __init__(self, count: int, factors: int, dropout: float, mean: float) -> None:
        super().__init__(count)
        self.mean = mean  # no weight: the biases learn what is missing, and it alone would bound the step of all
        self.user_bias, self.item_bias = nn.Embedding(count, 1), nn.Embedding(count, 1)
        self.users, self.items = nn.Embedding(count, factors), nn.Embedding(count, factors)
        self.dropout = nn.Dropout(dropout)
        for biases in (self.user_bias, self.item_bias):
            nn.init.zeros_(biases.weight)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, 0, SPREAD)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, 1) and (B, M) -> (B, M)."""
        biases = self.mean + (self.user_bias(users) + self.item_bias(items)).squeeze(-1)  # (B, M)
        return biases + self.dropout(self.users(users) * self.items(items)).sum(-1)
