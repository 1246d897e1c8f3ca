"""Reports: runs go through notebooks/report.ipynb, by papermill, into one HTML file that needs nothing else."""

from __future__ import annotations

import html
import os
import subprocess
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..charts.pictures import picture
from ..disks import why
from ..errors import LabError
from ..files import absolute, replacing
from ..run.handle import Run, attach
from ..run.naming import labels
from ..section import Section
from .compression import compressions
from .sections import costs, failures, figures, heading, provenance, spec, timings

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Section", "compressions", "costs", "failures", "figures", "find", "heading", "picture", "provenance"]
__all__ += ["report", "spec", "timings"]

PACKAGE = Path(__file__).parents[1]
NOTEBOOKS = (PACKAGE.parent / "notebooks", PACKAGE / "notebooks")  # of a checkout, of an installed wheel
PAGE, STYLE = (Path(__file__).with_name(name) for name in ("page.html.j2", "style.css"))

Runs = Run | str | Iterable[Run | str]


class Page(type(Path())):  # type: ignore[misc]  # PosixPath, which Path() makes
    """The path of a written page; last in a cell it is a link that opens it."""

    def _repr_html_(self) -> str:
        if not self.is_relative_to(here := Path.cwd()):  # Jupyter serves no files but those below its own folder
            beside = f"lab.report(run, {self.name!r}) writes it beside the notebook, from where it can be opened"
            return f"<code>{html.escape(str(self))}</code><br>{html.escape(beside)}."
        link = urllib.parse.quote(self.relative_to(here).as_posix())
        return f'<a href="{link}" target="_blank">{html.escape(self.name)}</a>'


def report(runs: Runs, out: str | os.PathLike[str] = "report.html") -> Page:
    """
    Write runs into one self-contained HTML file: it opens with no network, no kernel and no script.

    Parameters
    ----------
    runs
        A run, its id, or several of either; one that is still going is shown as far as it is.
    out
        The file to write; an older one is replaced.

    Returns
    -------
    Page
        The file, as an absolute `pathlib.Path`; last in a cell it is a link that opens it.

    Raises
    ------
    LabError
        If there is no such run, or the file can't be written.
    """
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
            draft.write_text(_html(_executed([run.id for run in chosen]), chosen), encoding="utf-8")
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
    found = [run if isinstance(run, Run) else attach(str(run)) for run in several]
    return list(dict.fromkeys(found))


def _executed(ids: list[str]) -> NotebookNode:
    """The report's notebook, executed for these runs in a kernel of its own."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from papermill.exceptions import PapermillExecutionError

    absolute("~", "HOME")  # where Jupyter looks for its settings

    class Kernel(AsyncKernelManager):
        """A kernel with the same lepton_lab as ours, installed or not, that says nothing on our terminal."""

        def start_kernel(self, **options: Any) -> Any:
            paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "MPLBACKEND": "agg"}
            return super().start_kernel(env=env, stderr=subprocess.DEVNULL, **options)

    notebook = next((root / "report.ipynb" for root in NOTEBOOKS if (root / "report.ipynb").exists()), None)
    if notebook is None:
        raise LabError(f"report.ipynb is missing from {str(NOTEBOOKS[-1])!r}: install lepton-lab again")
    try:
        return papermill.execute_notebook(
            str(notebook),
            None,
            parameters={"run_ids": ids},
            kernel_name="python3",
            progress_bar=False,
            kernel_manager_class=Kernel,
        )
    except PapermillExecutionError as error:
        raise LabError(f"the report's notebook failed with {error.ename}: {error.evalue}") from None


def _html(notebook: NotebookNode, runs: list[Run]) -> str:
    """An executed notebook as a page: no code, no prompts, pictures within, styles of our own."""
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        if "outputs" in cell:  # a library's warning is none of the reader's business
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(
        template_name="basic",
        template_file=str(PAGE),
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        anchor_link_text="",
    )
    notebook.metadata["title"] = f"Report: {', '.join(labels(runs))}"
    notebook.metadata["style"] = STYLE.read_text(encoding="utf-8")
    body, _ = exporter.from_notebook_node(notebook)
    return body
