"""Many runs at a look: a table of what they differ in, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..metrics import summarised
from ..store.naming import differing
from .handle import Run, attach, runs

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("epoch", "step", *summarised(), "samples_per_s", "seconds")


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

    if isinstance(of, (str, Run)):
        of = [of]
    if not isinstance(of, Iterable | None):
        of = [of]  # refused below
    found = [_run(one) for one in of] if of is not None else runs(archived=False)
    rows = []
    for run, apart in zip(found, differing([run.spec for run in found]), strict=True):
        summary = run.summary()
        named = {"name": run.name} if any(other.name for other in found) else {}
        fields = {name.removeprefix("options."): value for name, value in apart.items()}
        rows.append({**named, **fields, "state": run.state, **{name: summary[name] for name in FIGURES}})
    frame = pd.DataFrame(rows, index=pd.Index([run.id for run in found], name="id"))
    empty = [name for name in FIGURES if name in frame and frame[name].isna().all()]
    return frame.drop(columns=empty)


def _run(one: Run | str) -> Run:
    if not isinstance(one, (Run, str)):
        raise SpecError(f"table takes runs or their ids, not a {type(one).__name__}: lab.table(lab.runs())")
    return attach(one)
