"""
GPT: a decoder that reads tokens and says for each which comes next.

Legend of the shape comments: B samples, T tokens, E width, K vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import Block, Embedding, initialise


class GPT(nn.Module):
    """
    Tokens -> vectors -> blocks, in which a token sees those before it -> scores of every next token.

    After Radford and others, Language Models are Unsupervised Multitask Learners, 2019. `embed`, `blocks` and `head`
    are all there is, in that order: a pipeline may cut between any two blocks.

    Parameters
    ----------
    vocabulary
        K, kinds of tokens.
    context
        Most tokens that it reads at once.
    width, heads, depth
        E; heads of each block; blocks.
    dropout
        Fraction left out of the embedding and of what each layer adds, in training.
    rotary
        Positions as rotations in each block; else they are learned vectors.
    tied
        Whether the head's weights are the embedding's.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int,
        heads: int,
        depth: int,
        dropout: float = 0.0,
        rotary: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.context = context
        self.embed = Embedding(vocabulary, context, width, dropout, "rotary" if rotary else "learned")
        turned = context if rotary else 0
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, causal=True, rotary=turned) for _ in range(depth)))
        self.head = Head(width, vocabulary)
        initialise(self, depth)
        if tied:
            self.head.out.weight = self.embed.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) whole numbers below K -> (B, T, K), the scores of the token after each."""
        x = self.embed(tokens)  # (B, T, E)
        x = self.blocks(x)  # (B, T, E)
        return self.head(x)  # (B, T, K)


class Head(nn.Module):
    """Scores from what the last block left."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, K)."""
        return self.out(self.norm(x))
