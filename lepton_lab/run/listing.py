"""Many runs at once: those there are, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..metrics import joined, summarised
from ..store.finding import folders
from ..store.naming import differing
from .handle import Run, attach

if TYPE_CHECKING:
    import pandas as pd


def runs(tag: str | None = None, archived: bool | None = None) -> list[Run]:
    """
    The runs under LEPTON_LAB_HOME, newest first.

    Parameters
    ----------
    tag
        Only those that bear it.
    archived
        True, only those that were archived; False, only the others; None, all.
    """
    return [
        run
        for run in map(Run, folders())
        if (tag is None or tag in run.tags) and (archived is None or run.archived == archived)
    ]


def table(of: Iterable[Run | str] | None = None) -> pd.DataFrame:
    """
    Runs as a pandas table, one a row.

    Parameters
    ----------
    of
        Runs or their ids; all that are not archived if None.

    Returns
    -------
    pandas.DataFrame
        Indexed by id: the runs' name where one has any, the fields of their specs and options in which they differ (one
        that all share is left out), state, and figures as in `Run.summary`: losses, accuracies (fractions, 0 to 1),
        samples_per_s over all ranks, seconds at work. A figure that no run has is left out.

    Raises
    ------
    SpecError
        If it is given something else.
    """
    import pandas as pd

    if isinstance(of, str) or not isinstance(of, Iterable | None):
        of = [of]
    chosen = runs(archived=False) if of is None else list(map(_run, of))
    named_figures = ("epoch", "step", *summarised(joined(run.metrics for run in chosen)), "samples_per_s", "seconds")
    rows = []
    for run, apart in zip(chosen, differing([run.spec for run in chosen]), strict=True):
        summary = run.summary()
        named = {"name": run.name} if any(other.name for other in chosen) else {}
        fields = {name.removeprefix("options."): value for name, value in apart.items()}
        rows.append({**named, **fields, "state": run.state, **{name: summary.get(name) for name in named_figures}})
    frame = pd.DataFrame(rows, index=pd.Index([run.id for run in chosen], name="id"))
    empty = [name for name in named_figures if name in frame and frame[name].isna().all()]
    return frame.drop(columns=empty)


def _run(one: Run | str) -> Run:
    if not isinstance(one, Run | str):
        raise SpecError(f"table takes runs or their ids, not a {type(one).__name__}: lab.table(lab.runs())")
    return attach(one)
