"""The index of a grid in a real browser: sorted by a click, whole without script, on a phone and on paper."""

import pytest

import lepton_lab as lab
from lepton_lab.reports.index import Entry, write

pytestmark = pytest.mark.browser

WIDE, PHONE, PAPER = 1280, 390, 680


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("index")


@pytest.fixture
def index(tiny, folder):
    """The address of an index of a run that is done, with figures, and of three that are not; made once."""
    path = folder / "index.html"
    if path.exists():
        return path.as_uri()
    run = lab.launch(tiny)
    assert run.wait(60) == "done"
    entries = [
        Entry({"lr": lr, "optimizer": name}, "not run") for lr, name in ((0.1, "sgd"), (1e-3, "adam"), (10, "gd"))
    ]
    entries.append(Entry({"lr": 0.01, "optimizer": "muon"}, "done", run, "run.html"))
    write(path, "a <night>", entries, "lepton-lab report", "axes: {}")
    return path.as_uri()


def column(page, number):
    return page.locator(f"table.sortable tbody tr > :nth-child({number})").all_inner_texts()


def test_a_click_sorts_by_number_or_name_and_another_turns_it_over(browser, index):
    page = browser.new_page()
    page.goto(index)
    lr = page.get_by_role("button", name="lr")
    lr.click()
    assert column(page, 2) == ["0.001", "0.01", "0.1", "10"]
    lr.click()
    assert column(page, 2) == ["10", "0.1", "0.01", "0.001"]
    assert page.get_by_role("columnheader", name="lr").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="optimizer").press("Enter")
    assert column(page, 3) == ["adam", "gd", "muon", "sgd"]
    page.get_by_role("button", name="validation loss").click()
    assert column(page, 1)[0] == "Run 4"  # what has no value stays last
    page.close()


def test_without_script_and_network_all_is_there(browser, index):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(index)
    assert column(page, 1) == ["Run 1", "Run 2", "Run 3", "Run 4"]
    assert page.get_by_role("link", name="Run 4").get_attribute("href") == "run.html"
    assert page.locator("button").count() == 0 and page.locator("img").count() == 3
    assert page.get_by_role("heading", name="Grid: a <night>").count() == 1
    context.close()


@pytest.mark.parametrize(("width", "media"), [(WIDE, "screen"), (PHONE, "screen"), (PAPER, "print")])
def test_nothing_is_wider_than_the_page(browser, index, width, media):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    page.goto(index)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
