"""The table's entries for recurrent networks and word vectors: their options, checked; the models are next door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .fitting import Dropout, Sample, Size, images, takes, texts

if TYPE_CHECKING:
    from torch import nn


def _ways(sample: Sample, *, bidirectional: bool, width: int, **others: Any) -> str:
    """The sentence for reading from the end where that has seen what is asked, or a width that has no halves."""
    if bidirectional and texts(*sample):
        return (
            "options={'bidirectional': True}: next tokens are to be predicted, and what reads from the end has seen "
            "them; take bidirectional=False"
        )
    if bidirectional and width % 2:
        return f"options={{'width': {width}}}: must be even, since half of it reads each way; take {width + 1}"
    return ""


@takes(
    "texts, sequences of tokens or of rows of numbers with one label each, or images",
    lambda shape, classes, vocabulary: (
        len(shape) == 1 if vocabulary else 0 not in shape and (len(shape) == 2 or images(shape, classes, vocabulary))
    ),
    rules=(_ways,),
)
def rnn(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    cell: Literal["gru", "lstm", "plain"] = "gru",
    width: Size = 64,
    depth: Size = 2,
    dropout: Dropout = 0.0,
    bidirectional: bool = False,
    reads: Literal["largest", "last"] = "largest",
) -> nn.Module:
    """
    Recurrent network, plain or with gates: for texts, sequences with a label each, and images, read row by row.

    See `lepton_lab.models.rnn`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: (tokens,), (steps, features) or that of an image.
    cell
        "gru" and "lstm" have gates, which let them remember; "plain" has none.
    width
        Numbers of a state.
    depth
        Layers, at least 1, each of which reads the states of the one below it.
    dropout
        Fraction of each layer's states that a training step leaves out, from 0 to below 1.
    bidirectional
        Half of each layer reads from the end to the beginning.
    reads
        What is classified: the "largest" of each number over all places, or the "last" state. Of texts whose next
        tokens are to be predicted, every state is read.

    Raises
    ------
    SpecError
        If samples are no sequences, or options do not suit each other.
    """
    every = texts(shape, classes, vocabulary)
    from .blocks import Embedding
    from .rnn import RNN, Steps

    if vocabulary:
        # No positions are added, as for rotary ones: whoever reads in a row knows the order.
        embed: Embedding | Steps = Embedding(vocabulary, shape[0], width, dropout, "rotary")
    else:
        embed = Steps(shape[-1] * (shape[0] if len(shape) == 3 else 1), width, dropout)
    read = "every" if every else reads
    return RNN(embed, max(classes, 1), cell, width, depth, dropout, bidirectional, read)


@takes(
    "running text as tokens",
    lambda shape, classes, vocabulary: bool(vocabulary) and len(shape) == 1,
    chain=False,
    tasks=("skip_gram",),
)
def word_vectors(shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, width: Size = 100) -> nn.Module:
    """
    A vector for each word, learnt from which words stand near which: for task='skip_gram'.

    See `lepton_lab.models.word_vectors`.

    Parameters
    ----------
    shape, classes, vocabulary
        As of every model, see `lepton_lab.models`: the vocabulary is how many words there are.
    width
        Numbers of a vector.

    Raises
    ------
    SpecError
        If samples are no rows of tokens.
    """
    from .word_vectors import WordVectors

    return WordVectors(vocabulary, width)
