"""The live view: several runs told apart and steered one by one; what an ended or failed run offers."""

import pytest

from .jupyter import wait_for

pytestmark = pytest.mark.browser

OVERLAY = """import lepton_lab as lab
from lepton_widgets import Live
base = lab.Spec(dataset="digits", model="mlp", epochs=2)
runs = [lab.launch(base.replace(lr=lr)) for lr in (1e-3, 1e-2, 1e6)]
assert [run.wait(60) for run in runs] == ["done"] * 3
runs.append(lab.launch(base.replace(lr=3e-3, epochs=4000)))
live = Live(*runs)
live"""


def test_overlay(notebook, tmp_path):
    """Every run is named by what differs, told of in a row, and steered when chosen."""
    book = notebook(OVERLAY)
    page = book.page
    book.run_all()
    table = page.locator(".ll-runs")
    names = table.locator("tbody th").all_inner_texts()
    assert [name.strip() for name in names] == [
        "lr=0.001, epochs=2", "lr=0.01, epochs=2", "lr=1000000.0, epochs=2", "lr=0.003, epochs=4000",
    ]  # fmt: skip
    wait_for(lambda: "best" in table.inner_text(), "the best is not marked")
    rows = table.locator("tbody tr")
    assert [row.locator(".ll-badge").inner_text() for row in rows.all()][:3] == ["done"] * 3
    assert "%" in rows.nth(2).inner_text() and "best" not in rows.nth(2).inner_text()
    wait_for(lambda: "above the picture: lr=1000000.0" in page.locator(".ll-pane").first.inner_text(),
             "the run that diverged flattens the others")  # fmt: skip
    assert page.get_by_role("button", name="Stop").count() == 0, "the first run is done: nothing to stop"
    page.get_by_role("radio", name="Steer lr=0.003, epochs=4000").check()
    page.get_by_role("button", name="Stop").click()
    book.wait_state("stopped")
    assert book.run("print(live.steered, runs[3].wait(30))") == "3 stopped\n"
    page.locator(".ll-live").get_by_role("button", name="lr=0.01, epochs=2").click()
    wait_for(lambda: "lr=0.01" not in page.locator(".ll-chart").first.get_attribute("aria-label"), "it is still drawn")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the loss as a picture").click()
    assert download.value.suggested_filename.endswith("-loss.png")
    download.value.save_as(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[1:4] == b"PNG"
    book.shoot("live-overlay", ".ll-live")
    assert book.complaints == []


def test_an_ended_run_goes_on_with_another_rate(notebook):
    """A rate typed into an ended run goes with Resume; one that became NaN offers a lower one; a bug offers nothing."""
    book = notebook(
        "import lepton_lab as lab\nrun = lab.launch(lab.Spec(model='mlp', epochs=4000))\nrun",
        "nan = lab.launch(lab.Spec(model='mlp', epochs=2, optimizer='sgd', lr=1e9))\nnan",
        "import torch\nclass Bug(torch.nn.Linear):\n    def forward(self, x):\n        return x.nonsense\n"
        "bug = lab.launch(lab.Spec(epochs=2), model=Bug(64, 10))\nbug",
        size=(1280, 3200),
    )
    page = book.page
    book.run_all()
    first, second, third = (page.locator(".ll-live").nth(i) for i in range(3))
    book.wait_state("running", index=0)
    book.wait_state("failed", index=2)
    assert third.locator("input.ll-input").is_hidden() and third.get_by_role("button", name="Resume").count() == 0
    wait_for(lambda: "Failed before the first step" in third.locator(".ll-chart").first.get_attribute("aria-label"),
             "the chart waits for a step that never comes")  # fmt: skip
    rate = first.get_by_role("textbox")
    top = first.locator(".ll-chart").first.bounding_box()["y"]
    rate.fill("-1")
    rate.press("Enter")
    first.get_by_text("must be a number above 0").wait_for()
    assert rate.get_attribute("aria-invalid") == "true"
    assert first.locator(".ll-chart").first.bounding_box()["y"] == top, "the refusal moves the charts"
    book.shoot("live-refused", ".ll-live")
    first.get_by_role("button", name="Stop").click()
    book.wait_state("stopped", index=0)
    rate = first.get_by_role("textbox", name="Learning rate to resume with")
    rate.fill("5e-4")
    first.get_by_role("button", name="Resume").click()
    book.wait_state("running", index=0)
    assert "0.0005" in book.run("print(run.spec.lr, run.facts.get('steered'))")
    first.get_by_role("button", name="Stop").click()
    book.wait_state("stopped", index=0)
    book.wait_state("failed", index=1)
    assert second.get_by_role("button", name="Resume").is_hidden(), "the same would fail again"
    second.get_by_role("button", name="Again with lr 1e8").click()
    wait_for(lambda: book.run("print(nan.spec.lr)") == "100000000.0\n", "it did not go on with the lower rate")
    book.run("nan.wait(60)")
    assert book.complaints == []
