"""The page that JupyterLab opens on: cards that lead to the lessons, in light, dark and narrow."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

from .jupyter import READY, TOKEN, keep, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, jupyter):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context.new_page()
    context.close()
    jupyter.clear()


CARD = ".jp-RenderedMarkdown div[style] > div"
# null until every card is laid out
LEFT_EDGES = """(card) => {
    const boxes = [...document.querySelectorAll(card)].map((each) => each.getBoundingClientRect());
    return boxes.every((box) => box.width) ? boxes.map((box) => box.left) : null;
}"""
# how far the widest card reaches beyond its cell, in pixels; -1 until they are laid out
OVERHANG = """(card) => {
    const cards = [...document.querySelectorAll(card)].filter((each) => each.getBoundingClientRect().width);
    const over = cards.map((each) => {
        const cell = each.closest(".jp-RenderedMarkdown").getBoundingClientRect();
        return Math.max(0, Math.round(each.getBoundingClientRect().right - cell.right));
    });
    return over.length ? Math.max(...over) : -1;
}"""


def test_jupyterlab_opens_on_the_cards(jupyter, page):
    page.goto(f"{jupyter.url}/?token={TOKEN}")
    page.wait_for_function(READY, timeout=60_000)
    assert "/lab/tree/notebooks/index.ipynb" in page.url
    cards = (ROOT / "notebooks" / "index.ipynb").read_text().count("<a href")
    # All in one look, since JupyterLab lays a notebook out more than once while it opens.
    page.wait_for_function("([card, count]) => document.querySelectorAll(card).length === count", arg=[CARD, cards])
    left = wait_for(lambda: page.evaluate(LEFT_EDGES, CARD), "the cards were not laid out")
    assert len(set(left)) > 1, "cards stand one below the other on a wide page"
    border = page.locator(CARD).first.evaluate("(card) => getComputedStyle(card).borderTopWidth")
    assert border == "1px", "a card has no frame"
    keep(page, "index-light")
    page.set_viewport_size({"width": 600, "height": 1000})  # half a screen, with the side bar open
    wait_for(lambda: page.evaluate(OVERHANG, CARD) == 0, "a card is cut off on a narrow page")
    keep(page, "index-narrow")
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.locator(f"{CARD} a[href*='/files/']").first.click()  # JupyterLab has made it a link of its own by then
    # Its tab: which one is in front, JupyterLab decides once more at the end of its start.
    page.locator(".lm-TabBar-tabLabel", has_text="00_start_here.ipynb").wait_for(timeout=20_000)
    page.evaluate("""() => {
        window.jupyterapp.commands.execute('docmanager:open', {path: 'notebooks/index.ipynb'});
        window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'});
    }""")
    page.wait_for_function("() => document.body.dataset.jpThemeName === 'JupyterLab Dark'")
    page.locator(CARD).first.wait_for()
    page.wait_for_timeout(1000)  # until it is painted
    keep(page, "index-dark")


def test_a_report_in_a_cell_is_a_link_that_opens_it(notebook):
    book = notebook()
    page = book.page
    book.run(
        "from lepton_lab.reports import Page\n"
        "page = Page('a report.html').absolute(); page.write_text('<h1>Two runs</h1>'); page"
    )
    page.get_by_role("link", name="a report.html").click()
    page.frame_locator("iframe").get_by_role("heading", name="Two runs").wait_for(timeout=20_000)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")
    book.open(anew=False)
    assert book.complaints == []


@pytest.mark.slow  # the same cards as in JupyterLab
def test_the_cards_stand_in_html_too(browser, tmp_path):
    for theme in ("light", "dark"):
        out = tmp_path / f"{theme}.html"
        subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", "html", f"--HTMLExporter.theme={theme}", "--log-level=ERROR",
             str(ROOT / "notebooks" / "index.ipynb"), f"--output={out}"], check=True,
        )  # fmt: skip
        context = browser.new_context(viewport={"width": 480, "height": 1600}, offline=True)
        page = context.new_page()
        page.goto(out.as_uri(), wait_until="domcontentloaded")
        cards = page.locator("div[style*='grid'] > div")
        assert cards.count() > 3
        widths = [card.bounding_box() for card in cards.all()]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 480 for box in widths), "a card is cut off"
        timed = [bool(re.search(r"\d+ s of computing", card.inner_text())) for card in cards.all()]
        assert timed == [True] * (cards.count() - 1) + [False]  # the app is no lesson
        keep(page, f"index-html-{theme}")
        context.close()
