"""The workbench as an app: Voila serves it without a cell, by itself and beside JupyterLab."""

import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers import ROOT

from .jupyter import TOKEN, keep, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_spec("voila") is None, reason="Voila is not installed (pip install -e '.[app]')"),
]


@pytest.fixture
def app(jupyter):
    """Address of an app served as `make app` does, with the folders of a server of the tests."""
    path, options = re.search(r"JUPYTER_PATH=(\w+) \$\(BIN\)/voila (.*)", (ROOT / "Makefile").read_text()).groups()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "voila", *options.split(), "--no-browser", f"--port={port}"]
    log = (jupyter.folder / "voila.log").open("wb")
    environment = {**jupyter._environment(), "JUPYTER_PATH": path}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(url), "Voila did not start")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
            log.close()


def answers(url):
    try:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1])), 1):
            return True
    except OSError:
        return False


@pytest.fixture
def page(browser, jupyter):
    context = browser.new_context(viewport={"width": 1100, "height": 1300})
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: "127.0.0.1" in request.url or request.url.startswith(("data:", "blob:"))
            or page.complaints.append(request.url))  # fmt: skip
    yield page
    context.close()
    jupyter.clear()


def state(page):
    return page.locator(".ll-live").last.get_attribute("data-state") if page.locator(".ll-live").count() else None


def points(page):
    return int(page.locator(".ll-live").last.get_attribute("data-points") or 0)


@pytest.mark.slow
def test_form_launch_and_live_curve(app, page):
    page.goto(app)
    page.get_by_role("button", name="Launch", exact=True).wait_for(timeout=60_000)
    assert page.get_by_text("from lepton_widgets").count() == 0, "code is shown"
    assert page.get_by_role("heading", name="Lepton Lab").count() == 1
    page.get_by_role("textbox", name="Epochs").fill("400")
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Workers").fill("2")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Launch", exact=True).click()
    wait_for(lambda: state(page) == "running", "no run started")
    seen = wait_for(lambda: points(page), "no point was drawn")
    wait_for(lambda: points(page) > seen, "the curve does not grow")
    keep(page, "app-light")
    page.get_by_role("textbox", name="Learning rate of the running job").fill("5e-4")
    page.get_by_role("button", name="Set the learning rate").click()
    page.get_by_role("button", name="Stop").click()
    wait_for(lambda: state(page) == "stopped", "Stop did not stop it")
    page.get_by_role("checkbox", name="Overlay run").first.wait_for()
    assert page.complaints == []


@pytest.mark.slow  # for a person to look at
def test_dark_and_narrow(app, page):
    """Where the system is dark, so is the page; on a telephone the state of a run is in sight."""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 2400})
    page.goto(app)
    page.get_by_role("button", name="Launch", exact=True).wait_for(timeout=60_000)
    page.get_by_role("textbox", name="Epochs").fill("2")
    page.keyboard.press("Enter")
    accent = "e => getComputedStyle(e).backgroundColor"
    assert page.get_by_role("button", name="Launch", exact=True).evaluate(accent) == "rgb(110, 168, 255)"
    page.get_by_role("button", name="Launch", exact=True).click()
    wait_for(lambda: state(page) == "done", "the run did not end")
    wait_for(lambda: points(page), "nothing was drawn")
    assert page.locator(".ll-live").first.get_attribute("data-theme") == "dark"
    state_of = page.locator(".ll-shelf tbody .ll-badge").first
    box = wait_for(state_of.bounding_box, "the shelf has no state")  # none while the shelf is drawn anew
    assert box["x"] + box["width"] < 390, "one has to scroll for the state"
    keep(page, "app-dark")
    spill = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert spill <= 0, "something is cut off at the right"


def test_beside_jupyterlab_as_on_binder(jupyter, page):
    page.goto(f"{jupyter.url}/voila/render/notebooks/app.ipynb?token={TOKEN}")
    page.get_by_role("button", name="Launch", exact=True).wait_for(timeout=60_000)
    assert page.complaints == []  # nor a request to another host
