"""The table's entries for models of sequences: their options, checked; the models themselves are next door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..errors import SpecError
from .fitting import Dropout, Positions, Size, check, images, takes, texts

if TYPE_CHECKING:
    from torch import nn

PATCHES = 8  # a side, about, that an image is cut into by default


@takes(
    "images, or sequences of tokens with one label each",
    lambda shape, classes, vocabulary: (
        images(shape, classes, vocabulary) or (vocabulary > 0 and len(shape) == 1 and vocabulary != classes)
    ),
    dealt="heads",
)
def transformer(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 64,
    heads: Size = 4,
    depth: Size = 4,
    dropout: Dropout = 0.0,
    patch: Annotated[int, Field(ge=0)] = 0,
) -> nn.Module:
    """
    Transformer encoder that classifies images, cut into patches, or sequences of tokens.

    202,058 parameters on the digits, 204,938 on MNIST. See `lepton_lab.models.transformer`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`.
    width
        Numbers that a token is described by.
    heads
        Heads of each block's attention; a divisor of the width.
    depth
        Blocks, at least 1.
    dropout
        Fraction of what each layer adds that a training step leaves out, from 0 to below 1.
    patch
        Side of a patch in pixels; 0 takes about an eighth of the image's longer side, and at least 2: 2 on 8x8, 4 on
        28x28 and 32x32. Zeros fill up what patches don't divide.

    Raises
    ------
    SpecError
        If samples are neither images nor tokens of one label a sample, or options do not suit them or each other.
    """
    check(transformer, shape, classes, vocabulary)
    _divide(width, heads)
    from .blocks import Embedding
    from .transformer import Patches, Transformer

    if images(shape, classes, vocabulary):
        embed: Patches | Embedding = Patches(shape, _patch(patch, max(shape[1:])), width, dropout)
    else:
        embed = Embedding(vocabulary, shape[0], width, dropout)
    return Transformer(embed, max(classes, 1), width, heads, depth, dropout)


@takes("texts: tokens, each to be predicted from those before it", texts, dealt="heads")
def gpt(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 64,
    heads: Size = 4,
    depth: Size = 4,
    dropout: Dropout = 0.0,
    positions: Literal["rotary", "learned"] = "rotary",
    tied: bool = False,
) -> nn.Module:
    """
    GPT: a decoder that predicts each next token of a text from those before it.

    213,248 parameters on the 103 characters of Python 3.11's `pydocs`. See `lepton_lab.models.gpt`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: the shape is (tokens,) that it sees at once; classes and
        vocabulary are both the number of kinds of tokens.
    width
        Numbers that a token is described by.
    heads
        Heads of each block's attention; a divisor of the width.
    depth
        Blocks, at least 1.
    dropout
        Fraction of the embedding, and of what each layer adds, that a training step leaves out, from 0 to below 1.
    positions
        "rotary": attention turns by how far apart tokens are; "learned": a vector for each place, as in GPT-2.
    tied
        One matrix for the embedding of tokens and the scores of the next.

    Raises
    ------
    SpecError
        If samples are no texts whose tokens are to be predicted, or options do not suit each other.
    """
    check(gpt, shape, classes, vocabulary)
    _divide(width, heads)
    _turns(width, heads, positions)
    from .gpt import GPT

    return GPT(vocabulary, shape[0], width, heads, depth, dropout, positions == "rotary", tied)


@takes(
    "tokens for tokens: sources, and the targets that are to be written",
    lambda shape, classes, vocabulary: vocabulary > 0 and classes > 0 and len(shape) == 1,
    chain=False,
    dealt="heads",
    tasks=("sequence_to_sequence",),
)
def encoder_decoder(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 64,
    heads: Size = 4,
    depth: Size = 2,
    dropout: Dropout = 0.0,
    positions: Positions = "sinusoidal",
) -> nn.Module:
    """
    Transformer that reads a source and writes a target, as in translation, with attention between the two.

    284,928 parameters on `dates`. See `lepton_lab.models.encoder_decoder`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: the shape is (tokens,) of a source; vocabulary counts the kinds of
        its tokens, of which 0 is padding, and classes those of a target.
    width
        Numbers that a token is described by.
    heads
        Heads of each attention; a divisor of the width.
    depth
        Blocks of the encoder, and of the decoder, at least 1.
    dropout
        Fraction of the embeddings, and of what each layer adds, that a training step leaves out, from 0 to below 1.
    positions
        "sinusoidal": waves of many lengths, added to each token; "learned": a vector for each place; "rotary":
        attention within a text turns by how far apart tokens are.

    Raises
    ------
    SpecError
        If samples are no tokens with tokens as targets, or options do not suit each other.
    """
    check(encoder_decoder, shape, classes, vocabulary)
    _divide(width, heads)
    _turns(width, heads, positions)
    from .encoder_decoder import EncoderDecoder

    return EncoderDecoder(vocabulary, classes, shape[0], width, heads, depth, dropout, positions)


@takes(
    "tokens, of which some are the answer",
    lambda shape, classes, vocabulary: vocabulary > 0 and len(shape) == 1 and 0 < classes <= shape[0],
    dealt="heads",
    tasks=("question_answering",),
)
def reader(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 96,
    heads: Size = 4,
    depth: Size = 2,
    dropout: Dropout = 0.0,
) -> nn.Module:
    """
    Transformer encoder that marks where in a text the answer to a question starts and ends.

    994,658 parameters on `glosses`. See `lepton_lab.models.transformer`; after Devlin and others, BERT,
    arXiv:1810.04805, section 4.2.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: the shape is (tokens,) of the question and the text; there are as
        many classes, which are places, and vocabulary counts the kinds of tokens.
    width
        Numbers that a token is described by.
    heads
        Heads of each block's attention; a divisor of the width.
    depth
        Blocks, at least 1.
    dropout
        Fraction of what each layer adds that a training step leaves out, from 0 to below 1.

    Raises
    ------
    SpecError
        If samples are no tokens with places among them as targets, or options do not suit each other.
    """
    check(reader, shape, classes, vocabulary)
    _divide(width, heads)
    from .blocks import Embedding
    from .transformer import Transformer

    embed = Embedding(vocabulary, shape[0], width, dropout)
    return Transformer(embed, 2, width, heads, depth, dropout, pooled=False)


@takes(
    "texts with a label each, or whose masked tokens are to be found",
    lambda shape, classes, vocabulary: vocabulary > 0 and len(shape) == 1,
    chain=False,
    dealt="heads",
    tasks=("classification", "regression", "multilabel", "masked_language_model"),
)
def bert(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 64,
    heads: Size = 4,
    depth: Size = 6,
    dropout: Dropout = 0.0,
    pretrained: Literal["", "minilm"] = "",
    frozen: Literal["nothing", "embeddings", "body"] = "nothing",
) -> nn.Module:
    """
    BERT: an encoder of texts that reads both ways and leaves out padding, also with weights that others trained.

    22.6 million parameters with `pretrained="minilm"`, more than half of them its embedding. See
    `lepton_lab.models.bert`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`; token 0 is padding. Where classes and vocabulary are the same
        number, each token is scored.
    width
        Numbers that a token is described by; those of `pretrained` weights hold, which are 384.
    heads
        Heads of each block's attention, a divisor of the width; those of `pretrained` weights hold, which are 12.
    depth
        Blocks, at least 1; of `pretrained` weights at most 6, fewer are evenly spaced ones.
    dropout
        Fraction of the embedding, and of what each layer adds, that a training step leaves out, from 0 to below 1.
    pretrained
        Name of weights to begin with, all but the head's, as of `lab.weights`; "" begins with random ones. The data
        must be in their pieces: transforms=[{"wordpiece": {"pretrained": "minilm"}}].
    frozen
        What stays as it is: the "embeddings" of tokens and places, which saves their gradient and the optimizer's
        state; or the "body", all but the head.

    Raises
    ------
    SpecError
        If samples are no tokens, options do not suit each other, the weights are missing and can't be had, or the
        tokens are not theirs.
    """
    check(bert, shape, classes, vocabulary)
    from . import bert as room

    each, size = classes == vocabulary, (vocabulary, shape[0], max(classes, 1))
    if pretrained:
        model = room.pretrained(pretrained, *size, width, heads, depth, dropout, each)
    else:
        _divide(width, heads)
        model = room.Bert(*size, width, heads, depth, dropout, each)
    if frozen != "nothing":
        model.embed.requires_grad_(False)
    if frozen == "body":
        model.blocks.requires_grad_(False)
    return model


def _patch(patch: int, side: int) -> int:
    if patch > side:
        raise SpecError(
            f"options={{'patch': {patch}}}: must be from 1 to {side} (pixels a side of a patch, up to the image's), or "
            "0 for about an eighth"
        )
    return patch or max(2, -(-side // PATCHES))


def _turns(width: int, heads: int, positions: Positions) -> None:
    """Refuse heads of an odd size, which rotary positions can't turn."""
    if positions == "rotary" and width // heads % 2:
        raise SpecError(
            f"options={{'heads': {heads}}}: each of them gets {width // heads} of width={width}, and rotary positions "
            "turn pairs of numbers; take a width of which each head gets an even part, or positions='learned'"
        )


def _divide(width: int, heads: int) -> None:
    if width % heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        below, above = max(n for n in divisors if n < heads), min((n for n in divisors if n > heads), default=width)
        raise SpecError(
            f"options={{'heads': {heads}}}: must divide width={width}, of which each head gets a part; take "
            + (f"{below} or {above}" if above > heads else f"{below}")
        )
