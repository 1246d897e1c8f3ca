"""A chain of compressors: its one canonical form, what is refused of it, and the order of its rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SpecError, fitted, shown, unknown
from .tables import keywords, table
from .values import brief, parsed

if TYPE_CHECKING:
    from .compressors.base import Compressor
    from .spec import Spec

    Link = dict[str, dict[str, Any]]

FORMS = 'a name, such as "quantize"; a pair, such as ("prune", 0.5); or {"prune": {"ratio": 0.5, "rounds": 2}}'


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

    def compressor(self) -> Compressor:
        """A fresh compressor of its kind."""
        return table("compressor")[self.name](**self.options)


def canonical(chain: Any) -> list[Link]:
    """
    A chain in its one form: a list of {name: {option: value}}, with the options that were given, checked and converted.

    It may come as a list of links, each in one of FORMS; as one link; or as either in YAML or JSON text. A link or
    option that is refused is a SpecError.
    """
    try:
        links = parsed(chain) if isinstance(chain, str) else chain
    except ValueError:
        raise SpecError(f"compress={shown(chain)}: must be a list of links, each {FORMS}") from None
    if links is None:
        return []
    if isinstance(links, (str, Mapping)):
        links = [links]
    if not isinstance(links, (list, tuple)):
        raise SpecError(f"compress={shown(links)}: must be a list of links, each {FORMS}")
    return [{name: _options(name, value)} for name, value in map(_pair, links)]


def _pair(link: Any) -> tuple[str, Any]:
    """Name and options of a link, or the value of its first option."""
    if isinstance(link, str):
        link = (link, {})
    if isinstance(link, Mapping) and len(link) == 1:
        link = next(iter(link.items()))
    if not isinstance(link, (list, tuple)) or len(link) not in (1, 2) or not isinstance(link[0], str):
        raise SpecError(f"compress: {shown(link)} is no link; a link is {FORMS}")
    name, value = (*link, {})[:2]
    if name not in (names := table("compressor")):
        raise SpecError(f"compress={shown(name)}: {unknown('compressor', name, names)}")
    return name, value


def _options(name: str, value: Any) -> dict[str, Any]:
    """A link's options, checked; a value that is no mapping is that of the first option."""
    rules = {option: (rule, f"compressor {name!r}") for option, rule in keywords(table("compressor")[name]).items()}
    options = {} if value is None else value if isinstance(value, Mapping) else {next(iter(rules)): value}

    def show(option: str, value: Any) -> str:
        return f"compress={{{name!r}: {{{option!r}: {shown(value)}}}}}"

    return fitted(options, rules, show, f"of {name}")


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


def links(chain: list[Link]) -> list[tuple[str, dict[str, Any]]]:
    """Name and options of each link."""
    return [next(iter(link.items())) for link in chain]


def chain_name(chain: list[Link]) -> str:
    """A chain in a few words: `prune 0.5, distill, quantize int8`."""
    names = []
    for name, options in links(chain):
        (_, first), *others = [*options.items()] or [("", "")]
        head = name if isinstance(first, (dict, list)) else f"{name} {brief(first)}".strip()
        rest = ", ".join(f"{option}={brief(value)}" for option, value in others)
        names.append(f"{head} ({rest})" if rest else head)
    return ", ".join(names)


def plan(spec: Spec) -> list[Round]:
    """All rounds of a spec's chain, in order; the epochs of a link are shared out among its rounds."""
    rounds: list[Round] = []
    for i, (name, options) in enumerate(links(spec.compress)):
        compressor = table("compressor")[name](**options)
        usual = spec.epochs if compressor.trains else 0
        epochs = usual if compressor.epochs is None else compressor.epochs
        for r in range(compressor.rounds):
            share = epochs * (r + 1) // compressor.rounds - epochs * r // compressor.rounds
            rounds.append(Round(len(rounds), i, name, options, r + 1, share))
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
