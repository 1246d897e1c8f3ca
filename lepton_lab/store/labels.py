"""What people call a run, beside what it was asked to do: name, tags, note; put away, or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SpecError, visible
from ..spec import Spec
from .folder import RunFolder


class Labelled:
    """The labels of a run, kept in a file of its folder; its spec stays what was asked."""

    store: RunFolder
    if TYPE_CHECKING:

        @property
        def spec(self) -> Spec:
            """See Run."""

    @property
    def name(self) -> str:
        """A name of its own, or ""; `rename` changes it."""
        return str(self.store.labels.get("name", self.spec.name))

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
        self.store.label(name=self.spec.replace(name=name).name)

    def tag(self, *tags: str) -> None:
        """
        Let these be its tags, in place of those it had.

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
