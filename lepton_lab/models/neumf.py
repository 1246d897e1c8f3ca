"""
NeuMF: whether a user likes an item is found by a network, and not by a product alone.

Legend of the shape comments: B samples, M items of each, F factors, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .factorisation import SPREAD, Pairs


class NeuMF(Pairs):
    """
    Products of factors, beside what an MLP makes of both one's other factors, weighed and added up.

    After He and others, Neural Collaborative Filtering, WWW 2017. Trained as carefully, the plain product is as good or
    better (Rendle and others, Neural Collaborative Filtering vs. Matrix Factorization Revisited, RecSys 2020).

    Parameters
    ----------
    count
        As of `Pairs`.
    factors
        F, of the products, and as many for the MLP.
    hidden
        H, units of the MLP's first layer; its second has half as many.
    dropout
        Fraction of what the output looks at that a training step leaves out.
    mean
        What is added to every score; not learned.
    """

    def __init__(self, count: int, factors: int, hidden: int, dropout: float, mean: float) -> None:
        super().__init__(count)
        self.users, self.items = nn.Embedding(count, factors), nn.Embedding(count, factors)
        self.mlp_users, self.mlp_items = nn.Embedding(count, factors), nn.Embedding(count, factors)
        self.mlp = nn.Sequential(
            nn.Linear(2 * factors, hidden), nn.ReLU(), nn.Linear(hidden, -(-hidden // 2)), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(factors + -(-hidden // 2), 1)
        for table in (self.users, self.items, self.mlp_users, self.mlp_items):
            nn.init.normal_(table.weight, 0, SPREAD)
        self.mean = mean

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, 1) and (B, M) -> (B, M)."""
        products = self.users(users) * self.items(items)  # (B, M, F)
        who, what = self.mlp_users(users), self.mlp_items(items)
        both = self.mlp(torch.cat([who.expand_as(what), what], -1))  # (B, M, H / 2)
        return self.mean + self.out(self.dropout(torch.cat([products, both], -1))).squeeze(-1)
