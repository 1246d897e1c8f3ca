"""The Learner as a class sees it: a slider is moved, and a curve comes."""

import pytest

from .jupyter import wait_for

pytestmark = pytest.mark.browser

CELL = "from lepton_widgets import Learner\nlearner = Learner()\nlearner"


def whole(page, runs):
    """Wait until so many curves are shown, the newest drawn to its end."""

    def drawn():
        data = page.locator(".ll-learner").evaluate("(root) => ({...root.dataset})")
        ends = data.get("last") == data.get("epochs") and data.get("drawn") == data.get("run")
        return data if int(data.get("runs", 0)) == runs and ends and data["state"] == "done" else None

    return wait_for(drawn, f"curve {runs} is not whole")


def ink(page, index):
    """How many pixels of a chart are not its ground."""
    return (
        page.locator(".ll-learner canvas")
        .nth(index)
        .evaluate(
            """(canvas) => {
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
          return count;
        }"""
        )
    )


@pytest.mark.slow  # its kernel side is in tests/widgets
def test_a_slider_draws_a_new_curve_beside_the_old(notebook):
    book = notebook(CELL, "print('free:', 6 * 7)")
    page = book.page
    book.run_all()
    first = whole(page, 1)
    before = ink(page, 0)
    slider = page.get_by_role("slider", name="Learning rate")
    assert slider.get_attribute("aria-valuetext") == "0.05"
    slider.focus()
    slider.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "0.02"
    second = whole(page, 2)
    assert second["drawn"] != first["drawn"]
    assert ink(page, 0) > before
    trail = page.get_by_role("list", name="Curves shown, the newest first").get_by_role("listitem")
    told = trail.all_inner_texts()
    assert [text.split("\n")[0] for text in told] == ["rate 0.02", "rate 0.05"]
    assert all("%" in text for text in told)
    assert [item.get_attribute("aria-current") for item in trail.all()] == ["true", None]
    assert "Accuracy by epoch. rate 0.05: " in page.locator(".ll-learner .ll-chart").last.get_attribute("aria-label")

    for _ in range(4):  # as fast as one drags: only where it rests is trained
        slider.press("ArrowLeft")
    whole(page, 3)
    assert book.run("import lepton_lab as lab\nprint(len(lab.runs()), lab.runs()[0].spec.lr)") == "3 0.001\n"
    page.get_by_role("combobox", name="Optimizer").select_option("adam")
    whole(page, 4)
    assert page.get_by_role("slider", name="Momentum").is_disabled()
    assert trail.first.inner_text().startswith("adam, rate 0.001")
    assert book.run("print(learner.spec.optimizer, learner.spec.lr)") == "adam 0.001\n"
    lines = page.locator(".ll-trail .ll-swatch line")
    colours = lines.evaluate_all("(all) => all.map((line) => line.getAttribute('stroke'))")
    assert len(set(colours)) == 4, "the list does not say which curve is whose"
    assert book.complaints == []


@pytest.mark.slow  # for a person to look at
def test_looks(notebook):
    """Pictures in light, dark and narrow (kept under LEPTON_LAB_SCREENSHOTS), and no control without a name."""
    book = notebook(CELL)
    page = book.page
    book.run_all()
    whole(page, 1)
    moves = [("Learning rate", "ArrowLeft"), ("Batch size", "ArrowLeft"), ("Hidden units", "ArrowLeft")]
    for runs, (name, key) in enumerate(moves, 2):
        page.get_by_role("slider", name=name).focus()
        page.get_by_role("slider", name=name).press(key)
        whole(page, runs)
    page.wait_for_timeout(300)
    book.shoot("learner-light", ".ll-learner")
    for line in page.locator(".ll-learner").aria_snapshot().splitlines():
        role = line.strip(" -'").split(" ")[0].rstrip(":")
        if role in {"combobox", "slider", "img", "group", "list"}:
            assert '"' in line, f"without a name: {line}"
    book.command("apputils:change-theme", theme="JupyterLab Dark")
    wait_for(lambda: page.locator(".ll-learner").get_attribute("data-theme") == "dark", "the theme was not read")
    page.wait_for_timeout(500)
    book.shoot("learner-dark", ".ll-learner")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 520, "height": 1600})
    page.wait_for_timeout(500)
    book.shoot("learner-narrow-dark", ".ll-learner")
    spill = page.locator(".ll-learner").evaluate("(root) => root.scrollWidth - root.clientWidth")
    assert spill <= 0, "something is cut off at the right"
    book.command("apputils:change-theme", theme="JupyterLab Light")
    page.wait_for_timeout(500)
    book.shoot("learner-narrow", ".ll-learner")
    book.reload()
    whole(page, 4)
    assert book.complaints == []
