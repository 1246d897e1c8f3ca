"""A notebook that is opened again without its kernel: each widget is there as a picture and words."""

import json
import subprocess
import sys

import pytest

from .jupyter import wait_for

pytestmark = pytest.mark.browser

LAUNCH = """import time
import lepton_lab as lab
from lepton_widgets import Learner, Live, Shelf, Workbench
run = lab.launch(lab.Spec(model="mlp", epochs=400, name="saved one"), hooks=[lambda moment: time.sleep(0.01)])
run"""


@pytest.mark.slow  # test_stills saves every widget without a browser
def test_opened_again(notebook, tmp_path):
    book = notebook(LAUNCH, "Shelf()", "bench = Workbench(epochs=1)\nbench", "Learner(epochs=2)", size=(1280, 4000))
    page = book.page
    book.run_all()
    book.wait_state("running", index=0)
    wait_for(lambda: book.points(0) > 100, "the curve does not grow")
    page.locator(".ll-live").first.get_by_role("button", name="Stop").click()
    book.wait_state("stopped", index=0)
    page.locator(".ll-shelf .ll-badge[data-state=stopped]").first.wait_for()
    cells = lambda state: page.get_by_role("cell", name=state, exact=True, include_hidden=True).count()  # noqa: E731
    wait_for(lambda: cells("stopped") >= 3 and not cells("running"), "the end is not written into the notebook")
    run = book.run("print(run.id)").strip()
    accuracy = float(book.run("print(run.rows('eval')[-1]['accuracy'])"))
    assert page.locator(".ll-live").first.is_visible(), "the picture stands in place of the living view"
    book.command("docmanager:save")
    for session in book.jupyter.ask("sessions"):
        book.jupyter.ask(f"sessions/{session['id']}", "DELETE")
    book.complaints.clear()  # of the kernel that was shut down
    book.open()
    page.get_by_text("saved one").first.wait_for()
    page.wait_for_timeout(3000)  # as long as the page takes to say that a widget is lost
    text = page.locator(".jp-Notebook").inner_text()
    assert "Error displaying widget" not in text and "Loading widget" not in text
    assert f"{accuracy:.2%}" in text and f"lab.attach('{run}')" in text
    widths = page.locator(".jp-Notebook img").evaluate_all("(all) => all.map((img) => img.naturalWidth)")
    assert len(widths) >= 3 and all(widths), "a picture is missing"
    book.shoot("saved", ".jp-Notebook")
    path = book.jupyter.work / book.name
    assert "widget-view" not in path.read_text() and "widgets" not in json.loads(path.read_text())["metadata"]
    assert book.complaints == []
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to=html", "--log-level=ERROR", path, f"--output-dir={tmp_path}"],
        check=True,
    )
    page.goto((tmp_path / path.name).with_suffix(".html").as_uri(), wait_until="domcontentloaded")
    text = page.locator("body").inner_text()
    assert f"{accuracy:.2%}" in text and "stopped" in text and "queued" not in text and "running" not in text
    assert page.get_by_role("img", name="Loss by optimizer step").first.is_visible()
