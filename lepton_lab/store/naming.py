"""What runs are called: the labels that people give one, one title for each, and what sets several apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..chains import chain_name, listed
from ..errors import SpecError, visible
from ..links import LISTS
from ..spec import CELL, Spec
from ..values import brief

if TYPE_CHECKING:
    from ..run.handle import Run
    from .folder import RunFolder

LABEL = 44  # characters of a label, at most
UNSAID = ("name", "parent")  # fields that a label leaves out: a name stands for itself, and an id says nothing


class Labelled:
    """The labels of a run, kept in a file of its folder; its spec stays what was asked."""

    store: RunFolder

    @property
    def name(self) -> str:
        """A name of its own, or ""; `rename` changes it."""
        return str(self.store.labels.get("name", self.store.spec.name))

    @property
    def tags(self) -> list[str]:
        """Words to find it by; `tag` changes them."""
        return list(self.store.labels.get("tags", []))

    @property
    def note(self) -> str:
        """What was written down about it, or ""; `annotate` changes it."""
        return str(self.store.labels.get("note", ""))

    @property
    def archived(self) -> bool:
        """Whether it was put out of sight; `archive` changes it."""
        return bool(self.store.labels.get("archived"))

    def rename(self, name: str) -> None:
        """
        Give it another name, "" for none.

        Raises
        ------
        SpecError
            If it is no text, too long, or has characters that can't be seen.
        """
        self.store.label(name=self.store.spec.replace(name=name).name)

    def tag(self, *tags: str) -> None:
        """
        Let these be its tags, in place of those it had.

        So ``run.tag(*run.tags, "paper")`` adds one, and ``run.tag()`` drops all.

        Raises
        ------
        SpecError
            If one is no text, empty, or has a comma or characters that can't be seen.
        """
        if wrong := [tag for tag in tags if not isinstance(tag, str) or not tag.strip() or "," in tag]:
            raise SpecError(f"tag {wrong[0]!r}: must be a text without a comma, such as run.tag('baseline', 'paper')")
        self.store.label(tags=list(dict.fromkeys(visible("tag", tag.strip()) for tag in tags)))

    def annotate(self, note: str) -> None:
        """
        Write down something about it, in place of what was written before; "" for nothing.

        Raises
        ------
        SpecError
            If it is no text, or has characters that can't be seen but the ends of lines.
        """
        if not isinstance(note, str):
            raise SpecError(f"note={note!r}: must be a text")
        self.store.label(note=visible("note", note, but="\n\t"))

    def archive(self, archived: bool = True) -> None:
        """Put it out of sight on the shelf, or with False back; nothing of it is removed."""
        self.store.label(archived=bool(archived))

    def delete(self) -> None:
        """
        Remove its folder for good: curves, checkpoints, artifacts and logs.

        Raises
        ------
        LabError
            If it has not ended.
        """
        self.store.remove()


def title(spec: Spec) -> str:
    """What a run without a name is called: `mlp on digits`, or `mlp on digits, prune 0.5`."""
    chain = chain_name(spec.compress)
    return f"{spec.model} on {lean(spec.dataset)}".replace(CELL, "") + (f", {chain}" if chain else "")


def lean(dataset: str) -> str:
    """A data set's name with no more of a path than its last part: `images:photos`."""
    kind, mark, path = dataset.partition(":")
    return f"{kind}:{path.rstrip('/').rpartition('/')[2] or path}" if mark else dataset


def differing(specs: Sequence[Spec]) -> list[dict[str, Any]]:
    """Of each spec the fields, options among them, in which not all are the same; one that it lacks is None."""
    flat = [{**spec.to_dict(), **{f"options.{name}": value for name, value in spec.options.items()}} for spec in specs]
    names = [name for name in dict.fromkeys(name for one in flat for name in one) if name not in ("options", *UNSAID)]
    apart = [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]
    return [{name: one.get(name) for name in apart} for one in flat]


def labels(runs: Sequence[Run]) -> list[str]:
    """
    A short label for each run, all different: its name, else in what its spec differs, else its title.

    Where two are still the same, the end of the id follows.
    """
    names = [run.name for run in runs]
    short = []
    for run, name, fields in zip(runs, names, differing([run.spec for run in runs]), strict=True):
        parts = [name] if name else []
        if not name or names.count(name) > 1:
            ordered = sorted(fields.items(), key=lambda item: item[0] != "compress")  # which says the most
            parts += [_part(field, value) for field, value in ordered if value not in (None, [])]
        short.append(_joined(parts) or title(run.spec)[:LABEL])
    ends = [f"{label}, {run.id[-4:]}" for label, run in zip(short, runs, strict=True)]
    return [
        label if short.count(label) == 1 else end if ends.count(end) == 1 else run.id
        for label, end, run in zip(short, ends, runs, strict=True)
    ]


def _part(field: str, value: Any) -> str:
    if field in LISTS:
        return chain_name(value)
    if isinstance(value, list):
        return f"{field}={listed(value)}"
    text = lean(value) if field == "dataset" else brief(value)
    return f"{field.removeprefix('options.')}={text.replace(CELL, '')}"


def _joined(parts: list[str]) -> str:
    """As many of the parts as a label has room for, the first always."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part[:LABEL]
        if len(longer) <= LABEL:
            text = longer
    return text
