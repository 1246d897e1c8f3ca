"""
Word vectors: two tables, of which one holds words and the other what stands near them.

Legend of the shape comments: R words, M others of each, E width, V kinds of words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordVectors(nn.Module):
    """
    How well words go together: the product of one's vector in the first table and the other's in the second.

    After Mikolov and others, Distributed Representations of Words and Phrases and their Compositionality, 2013. Words
    that stand near the same others get vectors that point the same way.

    Parameters
    ----------
    vocabulary
        V.
    width
        E.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.near = nn.Embedding(vocabulary, width)
        nn.init.uniform_(self.words.weight, -0.5 / width, 0.5 / width)  # as in word2vec: products begin at 0
        nn.init.zeros_(self.near.weight)

    def forward(self, words: Tensor, others: Tensor) -> Tensor:
        """Words (R,) and others (R, M) -> scores (R, M)."""
        return torch.einsum("re,rme->rm", self.words(words), self.near(others))

    def directions(self) -> Tensor:
        """
        Where each word's vector points, (V, E), of length 1: the product of two is how alike they are, from -1 to 1.

        What all have in common is taken off first: it would make the most frequent words everybody's neighbours.
        """
        vectors = self.words.weight.detach()
        return nn.functional.normalize(vectors - vectors.mean(0), dim=1)
