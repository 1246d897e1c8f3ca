"""Reports: runs as one HTML file that needs nothing else; a grid's runs, each with such a page, and their index."""

from __future__ import annotations

import html
import os
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..charts import picture
from ..errors import LabError, needs
from ..files import absolute, replacing, why
from ..run.handle import Run, attach
from ..section import Section
from ..store.naming import labels
from .compression import compressions
from .data import prepared, qualities
from .logged import logged
from .page import page, parts
from .predictions import predictions
from .sections import costs, failures, figures, heading, provenance, spec, timings

__all__ = ["Section", "compressions", "costs", "failures", "figures", "find", "heading", "logged", "picture"]
__all__ += ["predictions", "prepared", "provenance", "qualities", "report", "spec", "timings"]

Runs = Run | str | Iterable[Run | str]


class Page(type(Path())):  # type: ignore[misc]  # PosixPath, which Path() makes
    """The path of a written page; last in a cell it is a link that opens it."""

    def _repr_html_(self) -> str:
        if not self.is_relative_to(here := Path.cwd()):  # Jupyter serves no files but those below its own folder
            beside = f"lab.report(run, {self.name!r}) writes it beside the notebook, from where it can be opened"
            return f"<code>{html.escape(str(self))}</code><br>{html.escape(beside)}."
        link = urllib.parse.quote(self.relative_to(here).as_posix())
        return f'<a href="{link}" target="_blank">{html.escape(self.name)}</a>'


def report(runs: Runs, out: str | os.PathLike[str] = "report.html", quality: bool = False) -> Page:
    """
    Write runs into one self-contained HTML file: it opens with no network, no kernel and no script.

    Parameters
    ----------
    runs
        A run, its id, or several of either; one that is still going is shown as far as it is.
    out
        The file to write; an older one is replaced.
    quality
        Whether to look through the runs' data too, as `lab.quality` does: they are loaded again.

    Returns
    -------
    Page
        The file, as an absolute `pathlib.Path`; last in a cell it is a link that opens it.

    Raises
    ------
    LabError
        If there is no such run, or the file can't be written.
    """
    needs("a report", "jinja2", "matplotlib")
    chosen = _listed(runs)
    if not chosen:
        raise LabError("a report needs at least one run: lab.report(lab.runs(), out) takes all there are")
    path = Page(absolute(out, "out"))
    if path.is_dir():
        raise LabError(f"the report {str(path)!r} can't be written: it is a folder; name a file such as report.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            draft.touch()  # refused before the work rather than after it
            title = f"Report: {', '.join(labels(chosen))}"
            draft.write_text(page(title, parts(chosen, quality)), encoding="utf-8")
    except OSError as error:
        raise LabError(f"the report {str(path)!r} can't be written ({why(error, path)}): name another file") from None
    return path


def find(run_ids: Any = ()) -> list[Run]:
    """
    Runs by what papermill passes: a list of ids, the same as JSON or YAML text, or one id; none is the latest run.

    Raises
    ------
    LabError
        If there is no such run.
    """
    if isinstance(run_ids, str):
        import yaml

        try:
            run_ids = yaml.safe_load(run_ids) or []
        except yaml.YAMLError:
            raise LabError(f"run_ids={run_ids!r}: must be run ids, such as ['20261122-021408-3fa2']") from None
    if isinstance(run_ids, int | float):  # a name made of digits only
        run_ids = str(run_ids)
    return _listed(run_ids or []) or [attach()]


def _listed(runs: Runs) -> list[Run]:
    """The runs meant, each once, in the order given."""
    several = [runs] if isinstance(runs, Run | str) else runs
    return list(dict.fromkeys(attach(run if isinstance(run, Run) else str(run)) for run in several))
