"""A report as a person looks at it: on paper."""

import subprocess
import sys

import pytest

import lepton_lab as lab
from lepton_lab.store.folder import RunFolder

from .jupyter import keep

pytestmark = pytest.mark.browser

PAPER = 680  # CSS pixels between the margins of an A4 page
# words of the heads of columns that stand in more than one line
BROKEN = """() => [...document.querySelectorAll("thead th")].flatMap((head) => {
    const lines = (node, word) => {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const upright = getComputedStyle(head).writingMode !== "horizontal-tb";
        return new Set([...range.getClientRects()].map((box) => Math.round(upright ? box.left : box.top))).size;
    };
    return [...head.childNodes].flatMap((node) => [...node.data.matchAll(/[^ -]+/g)]
        .filter((word) => lines(node, word) > 1).map((word) => word[0]));
})"""


def test_ten_runs_on_paper(browser, tmp_path):
    """No name of a column is broken within a word, and no table is wider than the page."""
    for i in range(10):
        spec = lab.Spec(model="mlp", name=f"regularisation-study {i}", lr=(i + 1) / 1000)
        RunFolder.create(spec).set_state("done")
    out = tmp_path / "ten.html"
    command = [sys.executable, "-m", "lepton_lab", "report", *(run.id for run in lab.runs()), "--out", out]
    subprocess.run(command, check=True, capture_output=True)  # here it would leave a thread in Playwright's loop
    page = browser.new_context(viewport={"width": PAPER, "height": 1000}).new_page()
    try:
        page.goto(out.as_uri())
        page.emulate_media(media="print")
        assert page.locator("thead th", has_text="regularisation-study 7").count() >= 2
        assert page.evaluate(BROKEN) == []
        wide = "() => Math.max(...[...document.querySelectorAll('table')].map((table) => table.offsetWidth))"
        assert page.evaluate(wide) <= PAPER
        keep(page.locator("main"), "report-on-paper")
    finally:
        page.context.close()
