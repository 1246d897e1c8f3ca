"""The compression form as a person uses it."""

import pytest

from .jupyter import wait_for

pytestmark = pytest.mark.browser

FORM = """import lepton_lab as lab
from lepton_widgets import Compression
parent = lab.launch(lab.Spec(dataset="digits", model="mlp", epochs=1))
parent.wait()
form = Compression(parent, epochs=1)
form"""


def test_a_slider_estimates_and_launch_measures(notebook):
    book = notebook(FORM)
    page = book.page
    book.run_all()
    slider = page.get_by_role("slider", name="Prune")
    slider.wait_for()
    table = page.get_by_role("region", name="Estimate beside what was measured")
    before = table.inner_text()
    slider.focus()
    slider.press("ArrowRight")
    wait_for(lambda: slider.get_attribute("aria-valuetext") == "55 %", "an arrow does not move the slider")
    wait_for(lambda: table.inner_text() != before, "the estimate does not follow the slider")
    assert page.get_by_label("Arithmetic").is_visible()
    page.get_by_role("button", name="Launch", exact=True).click()
    wait_for(lambda: "accuracy" in table.inner_text(), "nothing measured is shown")
    book.command("application:toggle-left-area")
    page.set_viewport_size({"width": 520, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    inside = """table => table.getBoundingClientRect().right <= table.closest(".ll-panel").getBoundingClientRect().right
      && table.scrollWidth > table.clientWidth"""
    wait_for(lambda: table.evaluate(inside), "the table does not scroll in its own box")
    book.shoot("compression-narrow")
    assert book.complaints == []
