"""The table's entries for models of sequences: their options, checked; the models themselves are next door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..errors import SpecError
from ..files import data_root
from ..tables import weights
from .fitting import Dropout, Positions, Sample, Size, images, takes, texts

if TYPE_CHECKING:
    from torch import nn

PATCHES = 8  # a side, about, that an image is cut into by default
USUAL = {"width": 64, "heads": 4}  # of bert, where it begins with no weights that others trained


def _divides(sample: Sample, *, width: int, heads: int, pretrained: str = "", **others: Any) -> str:
    """The sentence for heads that can't have a part each of the width; those of pre-trained weights are their own."""
    if pretrained or width % heads == 0:
        return ""
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    below, above = max(n for n in divisors if n < heads), min((n for n in divisors if n > heads), default=width)
    return f"options={{'heads': {heads}}}: must divide width={width}, of which each head gets a part; take " + (
        f"{below} or {above}" if above > heads else f"{below}"
    )


def _turns(sample: Sample, *, width: int, heads: int, positions: Positions, **others: Any) -> str:
    """The sentence for heads of an odd size, which rotary positions can't turn."""
    if positions != "rotary" or width // heads % 2 == 0:
        return ""
    return (
        f"options={{'heads': {heads}}}: each of them gets {width // heads} of width={width}, and rotary positions "
        "turn pairs of numbers; take a width of which each head gets an even part, or positions='learned'"
    )


def _within(sample: Sample, *, patch: int, **others: Any) -> str:
    """The sentence for patches that are larger than the image."""
    side = max(sample[0][1:], default=patch)
    if patch <= side:
        return ""
    return (
        f"options={{'patch': {patch}}}: must be from 1 to {side} (pixels a side of a patch, up to the image's), or "
        "0 for about an eighth"
    )


def _theirs(sample: Sample, *, pretrained: str, width: int, heads: int, depth: int, **others: Any) -> str:
    """The sentence for sizes, or samples, that are not those of weights that others trained, where these are here."""
    config = data_root() / "weights" / pretrained / "config.json"
    if not pretrained or not config.exists():
        return ""
    told = json.loads(config.read_text("utf-8"))
    own = {"width": told["hidden_size"], "heads": told["num_attention_heads"]}
    for option, asked in (("width", width), ("heads", heads)):
        if asked not in (USUAL[option], own[option]):
            has = f"has {option}={own[option]}; leave the option out"
            return f"options={{{option!r}: {asked}}}: pretrained={pretrained!r} {has}"
    (context,), _, vocabulary = sample
    for what, asked, most in (
        (f"options={{'depth': {depth}}}", depth, told["num_hidden_layers"]),
        (f"samples of {context} tokens", context, told["max_position_embeddings"]),
        (f"samples of {vocabulary:,} kinds of tokens", vocabulary, told["vocab_size"]),
    ):
        if asked > most:
            return f"{what}: pretrained={pretrained!r} has {most:,}; take at most as many"
    return ""


@takes(
    "images, or sequences of tokens with one label each",
    lambda shape, classes, vocabulary: (
        images(shape, classes, vocabulary) or (vocabulary > 0 and len(shape) == 1 and vocabulary != classes)
    ),
    dealt="heads",
    rules=(_divides, _within),
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
    from .blocks import Embedding
    from .transformer import Patches, Transformer

    if images(shape, classes, vocabulary):
        side = patch or max(2, -(-max(shape[1:]) // PATCHES))
        embed: Patches | Embedding = Patches(shape, side, width, dropout)
    else:
        embed = Embedding(vocabulary, shape[0], width, dropout)
    return Transformer(embed, max(classes, 1), width, heads, depth, dropout)


@takes("texts: tokens, each to be predicted from those before it", texts, dealt="heads", rules=(_divides, _turns))
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
    from .gpt import GPT

    return GPT(vocabulary, shape[0], width, heads, depth, dropout, positions == "rotary", tied)


@takes(
    "tokens for tokens: sources, and the targets that are to be written",
    lambda shape, classes, vocabulary: vocabulary > 0 and classes > 0 and len(shape) == 1,
    chain=False,
    dealt="heads",
    tasks=("sequence_to_sequence",),
    rules=(_divides, _turns),
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
    from .encoder_decoder import EncoderDecoder

    return EncoderDecoder(vocabulary, classes, shape[0], width, heads, depth, dropout, positions)


@takes(
    "tokens, of which some are the answer",
    lambda shape, classes, vocabulary: vocabulary > 0 and len(shape) == 1 and 0 < classes <= shape[0],
    dealt="heads",
    tasks=("question_answering",),
    rules=(_divides,),
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
    rules=(_divides, _theirs),
)
def bert(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = USUAL["width"],
    heads: Size = USUAL["heads"],
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
    from . import bert as room

    each, size = classes == vocabulary, (vocabulary, shape[0], max(classes, 1))
    if pretrained:
        folder = weights(pretrained)
        if why := _theirs((shape, classes, vocabulary), pretrained=pretrained, width=width, heads=heads, depth=depth):
            raise SpecError(why)
        model = room.pretrained(folder, *size[1:], depth, dropout, each)
    else:
        model = room.Bert(*size, width, heads, depth, dropout, each)
    if frozen != "nothing":
        model.embed.requires_grad_(False)
    if frozen == "body":
        model.blocks.requires_grad_(False)
    return model
