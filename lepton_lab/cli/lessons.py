"""lepton-lab lab: the lessons, in JupyterLab."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from ..errors import LabError, needs
from ..files import NOTEBOOKS, absolute, why

QUIET = (  # else the page has the server ask for newer versions and for news, of JupyterLab's makers
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
)

EXAMPLES = """
\b
Examples:
  lepton-lab lab                       in the current folder
  lepton-lab lab ~/lessons
  lepton-lab lab ~/lessons -- --no-browser --port 8890

A notebook that is in the folder already stays as it is. Ctrl-C ends JupyterLab; runs go on.
"""


@click.command(epilog=EXAMPLES, short_help="Open the lessons in JupyterLab.")
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.argument("jupyter", metavar="[-- JUPYTER_OPTION...]", nargs=-1)
def lab(folder: Path, jupyter: tuple[str, ...]) -> None:
    """Copy the lessons to a folder, where it has them not yet, and open JupyterLab there on its first page."""
    needs("lepton-lab lab", "jupyterlab", "ipywidgets", "anywidget")
    place = absolute(folder, "folder")
    try:
        for book in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("[a-z]*/*.ipynb")):
            copy = place / book.relative_to(NOTEBOOKS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                shutil.copyfile(book, copy)
        os.chdir(place)
    except OSError as error:
        raise LabError(f"the lessons can't be put into {str(place)!r} ({why(error, place)}): name another") from None
    root = () if os.geteuid() else ("--allow-root",)  # in a container one is root, which Jupyter wants to be told
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *root, *QUIET, "index.ipynb", *jupyter])
