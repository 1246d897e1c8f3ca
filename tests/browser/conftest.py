"""One real JupyterLab and one real Chromium for all tests here, in fresh folders; nothing of them is left behind."""

import shutil
import time
from pathlib import Path

import pytest
from helpers import ROOT

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

from .jupyter import QUIET, Notebook, chromium_path, serving, write_notebook


# Of the package, not of the session: while Playwright runs, no other test of the process could use asyncio.
@pytest.fixture(scope="package")
def chromium():
    """Path of a Chromium; without one the browser tests are skipped."""
    if sync_playwright is None:
        pytest.skip("Playwright is not installed")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on the PATH")
    return path


@pytest.fixture(scope="package")
def playwright(chromium):
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def browser(playwright, chromium):
    launched = playwright.chromium.launch(executable_path=chromium, args=QUIET)
    yield launched
    launched.close()


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory):
    """A server as on Binder, with the notebooks."""
    with serving(tmp_path_factory.mktemp("jupyter"), JUPYTER_CONFIG_PATH=ROOT / "binder") as server:
        shutil.copytree(ROOT / "notebooks", server.work / "notebooks")
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
    jupyter.clear()
