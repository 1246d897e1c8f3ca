"""The live view: several runs told apart and steered one by one; what an ended or failed run offers."""

import pytest

from .jupyter import wait_for

pytestmark = pytest.mark.browser

OVERLAY = """import time
import lepton_lab as lab
from lepton_widgets import Live
base = lab.Spec(dataset="digits", model="mlp", epochs=2)
runs = [lab.launch(base.replace(lr=lr)) for lr in (1e-3, 1e-2, 1e6)]
assert [run.wait(60) for run in runs] == ["done"] * 3
runs.append(lab.launch(base.replace(lr=3e-3, epochs=4000), hooks=[lambda moment: time.sleep(0.01)]))
live = Live(*runs)
live"""


@pytest.mark.slow  # what is overlaid is in tests/widgets
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


@pytest.mark.slow  # extended and steered in test_keeping and tests/widgets
def test_an_ended_run_goes_on_with_another_rate(notebook):
    """A rate typed into an ended run goes with Resume; one that became NaN offers a lower one; a bug offers nothing."""
    book = notebook(
        "import time\nimport lepton_lab as lab\n"
        "run = lab.launch(lab.Spec(model='mlp', epochs=4000), hooks=[lambda moment: time.sleep(0.01)])\nrun",
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


LOGS = """import torch, lepton_lab as lab
class Gated(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.gate = torch.nn.Linear(64, 10), torch.nn.Parameter(torch.ones(()))
    def forward(self, x):
        lab.log("gate", self.gate)
        return self.gate * self.layers(x.flatten(1))
def diary(moment):
    if moment.event == "step":
        moment.log("samples/step", 3.0)
        moment.log("norm", moment.model.layers.weight.norm())
    if moment.event == "epoch":
        lab.log_image("weights", moment.model.layers.weight[0].view(8, 8))
        lab.log_text("words", f"after epoch {moment.epoch} <b>")
        lab.log_audio("tone", torch.sin(torch.arange(4000) / 5), rate=8000)
        lab.log_histogram("spread", moment.model.layers.weight)
run = lab.launch(lab.Spec(epochs=3), model=Gated, hooks=[diary])
seen = []
run.on("end", lambda row: seen.append(row["state"]))
run"""


def heads(view):
    """Of the charts that are drawn, all read at once: one that is put away meanwhile would be waited for."""
    return [text.split("\n")[0] for text in view.locator(".ll-pane h4").all_inner_texts()]


def test_what_a_user_s_code_logs_has_charts_and_a_strip_with_a_slider(sheet):
    """Curves by name, of which chips show more; media of the newest step, and of the one that the slider is at."""
    book, page = sheet, sheet.page
    book.run(LOGS)
    book.wait_state("done")
    own = page.get_by_role("group", name="Charts shown")
    wait_for(lambda: own.get_by_role("button").count() == 5, "not all numbers have a chip")
    shown = lambda: heads(page)  # noqa: E731
    wait_for(lambda: len(shown()) == 4, "two numbers are drawn beside loss and accuracy")
    hidden = own.locator("[aria-pressed=false]")
    name = hidden.inner_text()
    hidden.click()
    wait_for(lambda: any(name in head for head in shown()), "the chosen chart is not drawn")
    gate = page.locator(".ll-chart[aria-label^='gate by step. Training'][aria-label*='Validation']")
    wait_for(lambda: gate.count() == 1, "the curve has no points")
    strip = page.get_by_role("region", name="Logged media")
    words, slider = strip.locator("figure[data-kind=text]"), strip.get_by_role("slider")
    wait_for(lambda: "after epoch 3 <b>" in words.inner_text(), "the newest text is not there")
    picture = strip.get_by_role("img", name="weights at step")
    assert picture.evaluate("image => [image.naturalWidth, image.width, image.complete]") == [8, 128, True]
    wait_for(lambda: strip.locator("audio").evaluate("sound => sound.duration") == 0.5, "the sound can't be played")
    assert "640 numbers" in strip.locator("svg").get_attribute("aria-label")
    slider.press("Home")
    wait_for(lambda: "after epoch 1 <b>" in words.inner_text(), "the slider leads to no earlier step")
    assert picture.get_attribute("alt") == "weights at step 23"
    assert book.run("print(seen)") == "['done']\n"
    book.shoot("live-logged", ".ll-live")
    assert book.complaints == []


ASKED = """import torch, lepton_lab as lab
x = torch.randn(200, 8)
def gap(output, target):
    return (output - target).abs().max()
part = x, x @ torch.randn(8, 2)
run = lab.launch(lab.Spec(epochs=3, ema=0.9), data=(part, part), metrics={"gap": gap}, model=torch.nn.Linear(8, 2))
run"""


def test_charts_are_chosen_and_stay_so_in_the_next_view(sheet):
    """Loss, the task's first metric and what was asked for; chips show all else that the run has, and put it away."""
    book, page = sheet, sheet.page
    book.run(ASKED)
    book.wait_state("done")
    chips = page.get_by_role("group", name="Charts shown")
    texts = lambda which: chips.locator(which).all_inner_texts()  # noqa: E731
    first = page.locator(".ll-live").first
    wait_for(lambda: heads(first) == ["Loss", "R2", "gap"], f"other charts are drawn: {heads(first)}")
    assert texts("[aria-pressed=false]") == ["MAE"]
    figures = first.get_by_role("table", name="Latest figures of the run")
    names = ["Validation", "Test", "EMA validation", "EMA test", "Loss", "MAE", "R2", "gap"]
    wait_for(lambda: figures.locator("th").all_inner_texts() == names, "many figures are no table")
    assert first.locator(".ll-figures dt").all_inner_texts() == ["Epoch", "Step", "Samples/s", "Time"]
    both = "(row) => ['MAE', 'R2'].forEach((name) => [...row.children].find((it) => it.textContent === name).click())"
    chips.evaluate(both)  # at once: the second before the first is drawn
    wait_for(lambda: heads(first) == ["Loss", "MAE", "gap"], "the chips do not choose")
    page.locator(".ll-chart[aria-label^='MAE by step. Validation']").wait_for()
    book.shoot("live-chosen", ".ll-live")
    book.run("run")
    wait_for(lambda: page.locator(".ll-live").count() == 2, "no second view came")
    wait_for(lambda: heads(page.locator(".ll-live").nth(1)) == ["Loss", "MAE", "gap"], "the choice is forgotten")
    assert book.complaints == []
