"""A chain of compressors: what is refused of it, and the order of its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SpecError, shown
from .links import Link, links
from .tables import table
from .values import brief

if TYPE_CHECKING:
    from .compressors.base import Compressor
    from .spec import Spec


@dataclass(frozen=True)
class Round:
    """One application of a link and the fine-tuning after it."""

    number: int
    """Place among all rounds of the chain, from 0."""
    link: int
    """Place of its link in the chain, from 0."""
    name: str
    options: dict[str, Any]
    round: int
    """Which of its link's rounds it is, from 1."""
    epochs: int
    teacher: Compressor | None = None
    """A link up to it that stays, see `Compressor.stays`."""

    @property
    def labels(self) -> bool:
        """Whether its fine-tuning looks at the labels."""
        own = self.compressor()
        return (own if own.compares or self.teacher is None else self.teacher).labels

    def compressor(self) -> Compressor:
        """A fresh compressor of its kind."""
        return table("compressor")[self.name](**self.options)


def refuse(spec: Spec) -> str:
    """Why a spec's chain can't be done, as one sentence; "" where it can."""
    if not spec.compress:
        if spec.parent:
            return f"parent={spec.parent!r}: only a chain needs one; give compress=[...] too: lab.compress(run, chain)"
        if spec.checkpoint != "last":
            return f"checkpoint={spec.checkpoint!r}: only a chain begins with one of its parent's; leave it out"
        return ""
    if not spec.parent:
        return (
            f"compress={shown(spec.compress)}: needs parent=..., the id of the run whose model is compressed; "
            "lab.compress(run, chain) names it"
        )
    able = [name for name, strategy in table("strategy").items() if strategy.trains_any_module]
    if "strategy" not in spec.own and spec.strategy not in able:
        return (
            f"strategy={spec.strategy!r}: can't train what a compressor makes, since it cuts models that it knows; "
            f"take one of {', '.join(able)}"
        )
    before: list[tuple[str, dict[str, Any]]] = []
    for name, options in links(spec.compress):
        compressor = table("compressor")[name](**options)
        for other, theirs in before:
            if why := table("compressor")[other](**theirs).forbids(compressor):
                return f"compress: {name!r} after {other!r}: {why}"
        if why := compressor.refuse(options, before, spec):
            return why
        before.append((name, options))
    return ""


def chain_name(chain: list[Link]) -> str:
    """A chain in a few words: `prune 0.5, distill, quantize int8`."""
    names = []
    for name, options in links(chain):
        (_, first), *others = [*options.items()] or [("", "")]
        head = name if isinstance(first, (dict, list)) else f"{name} {brief(first)}".strip()
        rest = ", ".join(f"{option}={brief(value)}" for option, value in others)
        names.append(f"{head} ({rest})" if rest else head)
    return ", ".join(names)


def listed(values: Sequence[Link | str]) -> str:
    """A field that is a list, such as a chain or names of metrics, in a few words."""
    return ", ".join(value if isinstance(value, str) else chain_name([value]) for value in values)


def plan(spec: Spec) -> list[Round]:
    """All rounds of a spec's chain, in order; the epochs of a link are shared out among its rounds."""
    rounds: list[Round] = []
    teacher = None
    for i, (name, options) in enumerate(links(spec.compress)):
        compressor = table("compressor")[name](**options)
        teacher = compressor if compressor.stays else teacher
        usual = spec.epochs if compressor.trains else 0
        epochs = usual if compressor.epochs is None else compressor.epochs
        for r in range(compressor.rounds):
            share = epochs * (r + 1) // compressor.rounds - epochs * r // compressor.rounds
            rounds.append(Round(len(rounds), i, name, options, r + 1, share, teacher))
    return rounds


def epochs(spec: Spec) -> int:
    """Epochs that a run trains for: those of all links, where it has a chain."""
    return sum(item.epochs for item in plan(spec)) if spec.compress else spec.epochs


def mismatch(parent: dict[str, Any], spec: Spec, shape: tuple[int, ...], classes: int, vocabulary: int) -> None:
    """Refuse, with a SpecError, data unlike the parent's, of which it has shape, classes (names) and vocabulary."""
    start = f"dataset={spec.dataset!r}: run {spec.parent!r}, which is compressed and teaches,"
    if tuple(parent["shape"]) != tuple(shape):
        raise SpecError(
            f"{start} takes samples of shape {tuple(parent['shape'])}, not {tuple(shape)}; take data like its own"
        )
    if (n := len(parent["classes"])) != classes:
        raise SpecError(f"{start} tells {n} classes apart, and the data have {classes}; take data of as many")
    if parent.get("vocabulary", 0) != vocabulary:
        raise SpecError(f"{start} knows {parent.get('vocabulary', 0)} kinds of tokens, and the data have {vocabulary}")
