"""
Tasks: TASKS maps a name to a `Task`, which says what a batch means: inputs, loss, what is counted, what is drawn.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Paired, Task
from .keywords import Keywords

if TYPE_CHECKING:
    from ..datasets import Data
    from .base import OwnLoss

__all__ = ["Paired", "Task", "make"]


def make(data: Data, loss: OwnLoss | None = None, own: type[Task] | None = None) -> Task:
    """The task of some data: the user's own; else pairs are compared, and dicts are a model's keywords."""
    if own is not None:
        return own(data, loss)
    if isinstance(data.example, dict):
        return Keywords(data, loss)
    return Paired(data, loss) if data.example is None else Task(data, loss)
