"""
Models: MODELS maps a name to a function `(shape, classes, vocabulary, **options) -> nn.Module`.

A model is called with x and returns logits, unless it names the tasks that it is for, which call it as they do.

`shape` is that of one sample, such as (channels, height, width) or (tokens,); `classes` is the number of outputs, where
0 (a regression) gives one; `vocabulary` is the number of kinds of tokens, 0 where samples are no tokens.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..tables import meant, pick
from . import generative, images, lenet, recommenders, recurrent, sequences, speech
from .images import cnn, mlp, mnist_cnn
from .own import arguments, build, trainable
from .sampling import sample

if TYPE_CHECKING:
    from torch import nn

    from ..spec import Spec

__all__ = ["MODELS", "arguments", "build", "cnn", "make", "mlp", "mnist_cnn", "sample", "trainable"]

# `bert`, `detector`, `gan`, `gpt` and others stay names of modules here, whose code is the lesson.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "mnist_cnn": mnist_cnn,
    "lenet": lenet.lenet,
    "resnet": images.resnet,
    "detector": images.detector,
    "transformer": sequences.transformer,
    "gpt": sequences.gpt,
    "bert": sequences.bert,
    "rnn": recurrent.rnn,
    "encoder_decoder": sequences.encoder_decoder,
    "reader": sequences.reader,
    "word_vectors": recurrent.word_vectors,
    "factorisation": recommenders.factorisation,
    "neumf": recommenders.neumf,
    "speech_recogniser": speech.speech_recogniser,
    "speech_synthesiser": speech.speech_synthesiser,
    "enhancer": speech.enhancer,
    "gan": generative.gan,
    "flow": generative.flow,
}


def make(spec: Spec, sample: tuple[tuple[int, ...], int, int], own: Any = None) -> nn.Module:
    """
    The fresh model of a spec for data of a `sample`: shape of one, number of classes, kinds of tokens (`data.sample`).

    `own` is what the user passed in place of a name: a module, which is taken itself, or what makes one. A model that
    can make nothing of the samples is a SpecError.
    """
    if own is not None:
        return build(own, *sample)
    maker = pick(MODELS, spec.model, "model")
    asked = maker.by_task.get(meant(spec.task, spec.dataset), {})
    return maker(*sample, **spec.options_of(maker) | dict(asked))
