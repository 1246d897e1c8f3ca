"""What models share: ranges of their options, and the sentence for one that does not fit its samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from .initialising import drawn_twice, initialisable

Size = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Sample = tuple[tuple[int, ...], int, int]
Rule = Callable[..., str]
NONE: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
Positions = Literal["rotary", "learned", "sinusoidal"]
"""How tokens know where they are: turned by it in attention, or by what is added to them."""


def _misfit(name: str, takes: str, shape: tuple[int, ...], classes: int, vocabulary: int, tasks: bool) -> str:
    """The one sentence for a model that can make nothing of the samples; it names one that can, of any task."""
    if vocabulary:
        texts = vocabulary == classes
        fits = "gpt" if texts else "transformer"
        samples = f"tokens (whole numbers) of shape {shape}" + (", each to be predicted" if texts else "")
    else:
        fits = "transformer" if images(shape, classes, vocabulary) else "mlp"
        samples = f"numbers of shape {shape}"
    remedy = f", with {classes} classes" if tasks else f"; take model={fits!r}"
    return f"model={name!r}: takes {takes}, but the samples are {samples}{remedy}"


def takes(
    words: str,
    fits: Callable[[tuple[int, ...], int, int], bool],
    *,
    layers: int = 0,
    chain: bool = True,
    dealt: str = "",
    tasks: tuple[str, ...] = (),
    by_task: Mapping[str, Mapping[str, Any]] = NONE,
    rules: tuple[Rule, ...] = (),
) -> Callable[[Any], Any]:
    """
    Say of a model's maker which samples and options it takes: others are refused before anything is made of them.

    The maker gets `refuse(shape, classes, vocabulary, **options)`: the one sentence for samples that it can make
    nothing of, or options that don't suit them or each other, else "". It needs no torch, and is asked before a run
    starts; the maker itself raises it as a SpecError. And it gets the option `initialisation`.

    Parameters
    ----------
    words
        What it takes, in words.
    fits
        Whether it takes samples of a shape, a number of classes, and a vocabulary.
    layers
        Layers with weights, between which a pipeline can cut it; 0 where its option `depth` tells.
    chain
        Whether each layer gives the next one tensor, and no more is done: a pipeline can cut no other model.
    dealt
        The option, such as `heads`, that tensor parallel ranks share out evenly; "" where its layers can't be cut.
    tasks
        Names of the tasks that it is for, where it is called with more than x or gives other than scores of classes or
        a number; () of those that take every such model.
    by_task
        Options that it has for a task whatever the user says, such as ``{"ctc": {"frames": True}}``.
    rules
        What its options must keep beside the range of each: called with the sample and all of them by name, a rule
        gives the one sentence for those that don't, else "".
    """

    def mark(maker: Any) -> Any:
        def refuse(shape: tuple[int, ...], classes: int, vocabulary: int = 0, **options: Any) -> str:
            if not fits(shape, classes, vocabulary):
                return _misfit(maker.__name__, words, shape, classes, vocabulary, bool(tasks))
            chosen = usual | options
            broken = (rule((shape, classes, vocabulary), **chosen) for rule in (*rules, drawn_twice))
            return next(filter(None, broken), "")

        made = initialisable(maker, refuse)
        asked = inspect.signature(made).parameters.values()
        usual = {option.name: option.default for option in asked if option.kind is option.KEYWORD_ONLY}
        made.refuse, made.layers, made.chain, made.dealt = refuse, layers, chain, dealt
        made.tasks, made.by_task = tasks, by_task
        return made

    return mark


def images(shape: tuple[int, ...], classes: int, vocabulary: int) -> bool:
    """Whether samples are images, (channels, height, width)."""
    return not vocabulary and len(shape) == 3 and 0 not in shape


def texts(shape: tuple[int, ...], classes: int, vocabulary: int) -> bool:
    """Whether samples are tokens (T,), each to be predicted from those before it."""
    return bool(vocabulary) and vocabulary == classes and len(shape) == 1
