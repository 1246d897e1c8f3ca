"""One real JupyterLab and one real Chromium for all tests here, in fresh folders; nothing of them is left behind."""

import contextlib
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


@pytest.fixture(scope="package")
def desks(browser):
    """The page in which a server's notebooks are opened one after the other, by its address."""
    pages = {}
    yield pages
    for page in pages.values():
        page.context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    item.parent.keywords["failed"] = item.keywords.get("failed", False) or report.failed
    return report


@contextlib.contextmanager
def opening(browser, jupyter, desks, item):
    """
    Function that opens a notebook of the given cells, or of the given path.

    JupyterLab is loaded once for all, which takes five times as long as to open a notebook in it; anew after a test
    that failed, of which anything may be left.
    """
    opened = []

    def open_notebook(*cells: str, path: Path | None = None, size: tuple[int, int] = (1280, 1800)) -> Notebook:
        name = f"test{time.time_ns()}.ipynb"
        if path is not None:
            shutil.copy(path, jupyter.work / name)
        else:
            write_notebook(jupyter.work / name, *cells)
        if jupyter.url not in desks:
            desks[jupyter.url] = browser.new_context().new_page()
        page = desks[jupyter.url]
        page.set_viewport_size({"width": size[0], "height": size[1]})
        opened.append(Notebook(page, jupyter, name))
        return opened[-1]

    yield open_notebook
    for book in opened:
        book.close()
    if item.keywords.get("failed"):
        desks.pop(jupyter.url).context.close()
    jupyter.clear()


@pytest.fixture
def notebook(browser, jupyter, desks, request):
    """Function that opens a notebook of the given cells, or of the given path."""
    with opening(browser, jupyter, desks, request.node) as open_notebook:
        yield open_notebook


@pytest.fixture(scope="module")
def _book(browser, jupyter, desks, request):
    with opening(browser, jupyter, desks, request.node) as open_notebook:
        book = open_notebook()
        book.run("from lepton_lab.launchers import local; local.warm()")  # now, since no test may leave it behind
        yield book


@pytest.fixture
def sheet(_book):
    """
    A notebook without cells, in a kernel that the tests of a file share: a kernel and its warm process take seconds.

    In a file they come last: what `notebook` gives ends all kernels.
    """
    _book.empty()
    yield _book
    _book.empty()
    _book.jupyter.stop_runs()
