"""A real JupyterLab and a real Chromium, each in fresh folders; nothing of them is left behind."""

import shutil
import time
from pathlib import Path

import pytest

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

from .jupyter import QUIET, Notebook, chromium_path, serving, write_notebook


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium; without one the browser tests are skipped."""
    if sync_playwright is None:
        pytest.skip("Playwright is not installed")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on the PATH")
    return path


@pytest.fixture(scope="module")
def playwright(chromium):
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright, chromium):
    launched = playwright.chromium.launch(executable_path=chromium, args=QUIET)
    yield launched
    launched.close()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def notebook(browser, jupyter):
    """Function that opens a notebook of the given cells, or of the given path, in a page of its own."""
    contexts = []

    def open_notebook(*cells: str, path: Path | None = None, size: tuple[int, int] = (1280, 1800)) -> Notebook:
        name = f"test{len(contexts)}-{time.time_ns()}.ipynb"
        if path is not None:
            shutil.copy(path, jupyter.work / name)
        else:
            write_notebook(jupyter.work / name, *cells)
        contexts.append(browser.new_context(viewport={"width": size[0], "height": size[1]}))
        return Notebook(contexts[-1].new_page(), jupyter, name)

    yield open_notebook
    for context in contexts:
        context.close()
    jupyter.stop_runs()
    for session in jupyter.ask("sessions") or []:
        jupyter.ask(f"sessions/{session['id']}", "DELETE")
