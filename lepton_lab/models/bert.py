"""
BERT: an encoder that reads a text both ways, from random weights or from those that others trained.

Legend of the shape comments: B samples, T tokens, E width, K classes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ..values import evenly
from .blocks import MLP, Attention, fits, initialise

PAD = 0  # the token that is no text, as all of the lab's tokenizers have it, and BERT's own
EPSILON = 1e-12  # of all norms, as the weights that others trained have it
PARTS = {  # by what Hugging Face calls a part of a block
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "norm2",
}


class Bert(nn.Module):
    """
    Tokens -> vectors -> blocks, in which all see all but padding -> scores: of classes, or of what each token is.

    After Devlin and others, BERT, arXiv:1810.04805, with the mean of all tokens in place of the first one's vector
    (Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084).

    Parameters
    ----------
    vocabulary
        Kinds of tokens; 0 is padding.
    context
        Most tokens that it reads at once.
    outputs
        K.
    width, heads, depth
        E; heads of each block; blocks.
    dropout
        Fraction left out of the embedding and of what each layer adds, in training.
    each
        Whether it scores each token, as to find those that are masked, and not the text.
    """

    filler = PAD
    """The token that changes nothing at a sample's end, so that batches need not be longer than their longest text."""

    def __init__(
        self,
        vocabulary: int,
        context: int,
        outputs: int,
        width: int,
        heads: int,
        depth: int,
        dropout: float = 0.0,
        each: bool = False,
    ) -> None:
        super().__init__()
        self.each = each
        self.embed = Embedding(vocabulary, context, width, dropout)
        # No Sequential: blocks are called with the mask too, so that a pipeline can't cut between them.
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.head = nn.Linear(width, outputs)
        initialise(self, depth)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) whole numbers -> (B, K), or (B, T, K) of `each`."""
        return self.head(self.read(tokens) if self.each else self.encode(tokens))

    def encode(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, E), a vector of each text: the mean of its tokens'."""
        seen = self.seen(tokens)[..., None]  # (B, T, 1)
        return (self.read(tokens) * seen).sum(1) / seen.sum(1)

    def read(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, E), a vector of each token among the others."""
        seen = self.seen(tokens)[:, None, None]  # (B, 1, 1, T)
        x = self.embed(tokens)  # (B, T, E)
        for block in self.blocks:
            x = block(x, seen)  # (B, T, E)
        return x

    @staticmethod
    def seen(tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T): whether a token is text; of an empty text the first is taken for it."""
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        return (tokens != PAD) | first


class Block(nn.Module):
    """
    Tokens look at each other, then each thinks by itself; the norms come after what is added ("post-norm").

    So they stand in Vaswani and others, arXiv:1706.03762, and in BERT; GPT's come first, see `blocks.Block`.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, causal=False)
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(B, T, E), and `seen` as of Attention -> (B, T, E)."""
        x = self.norm1(x + self.dropout(self.attention(x, seen=seen)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Embedding(nn.Module):
    """Tokens as vectors, each with that of its place added, and a norm."""

    def __init__(self, vocabulary: int, context: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, E)."""
        fits(tokens.shape[1], len(self.positions))
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return self.dropout(self.norm(x))


def pretrained(folder: Path, context: int, outputs: int, depth: int, dropout: float = 0.0, each: bool = False) -> Bert:
    """
    A Bert with weights that others trained, all but the head's, which is new: a folder of `lepton_lab.weights`.

    Of their blocks `depth` evenly spaced ones are taken, the first and the last among them; of their places the first.
    What BERT adds for the first of two texts is added to the places, since there is no second one.
    """
    from safetensors.torch import load_file

    told = json.loads((folder / "config.json").read_text("utf-8"))
    found = {key.removeprefix("bert."): value for key, value in load_file(folder / "model.safetensors").items()}
    model = Bert(
        told["vocab_size"],
        context,
        outputs,
        told["hidden_size"],
        told["num_attention_heads"],
        depth,
        dropout,
        each,
    )
    first = found["embeddings.token_type_embeddings.weight"][0]
    state = {
        "embed.tokens.weight": found["embeddings.word_embeddings.weight"],
        "embed.positions": found["embeddings.position_embeddings.weight"][:context] + first,
        "embed.norm.weight": found["embeddings.LayerNorm.weight"],
        "embed.norm.bias": found["embeddings.LayerNorm.bias"],
    }
    for place, layer in enumerate(evenly(told["num_hidden_layers"], depth)):
        for theirs, ours in PARTS.items():
            for kind in ("weight", "bias"):
                state[f"blocks.{place}.{ours}.{kind}"] = found[f"encoder.layer.{layer}.{theirs}.{kind}"]
    model.load_state_dict(state, strict=False)  # but for the head
    return model
