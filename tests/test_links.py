"""Links in README, docs and notebooks: each file and each heading that one points to is there."""

import json
import re
from urllib.parse import unquote

import pytest
from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("notebooks/**/*.ipynb"))]


def text_of(path):
    """A page's prose, without its code."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = path.read_text()
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def links(text):
    """Targets of links and pictures, in Markdown and in HTML."""
    prose = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^()\s]+)\)", prose) + re.findall(r'(?:href|src)="([^"]+)"', prose)


def anchors(path):
    """Names that a link into a page can have: JupyterLab's of a heading in a notebook, GitHub's in a page."""
    headings = re.findall(r"^#+ +(.+?)\s*$", text_of(path), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in headings]
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in plain}
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken(page):
    """Relative links of a page that lead nowhere."""
    for link in links(text_of(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue  # another host, which is not asked
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or not target.is_relative_to(ROOT) or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert list(broken(page)) == []


def test_what_leads_nowhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    good = "[a](other.md#two-words) ![b](other.md) [c](#here) [d](https://example.org/x) `[e](code.md)`"
    bad = '[f](none.md) [g](other.md#three) <a href="gone.ipynb">h</a> [i](#there) [j](../outside.md)'
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n{good}\n{bad}\n```\n[k](fenced.md)\n```\n")
    (tmp_path / "other.md").write_text("## Two *words*!\n")
    assert list(broken(page)) == ["none.md", "other.md#three", "#there", "../outside.md", "gone.ipynb"]


def test_the_landing_notebook_has_a_card_for_each_other(tmp_path):
    index = ROOT / "notebooks" / "index.ipynb"
    cards = re.findall(r'<a href="([^"]+\.ipynb)">', text_of(index))
    there = {path.relative_to(index.parent).as_posix() for path in index.parent.glob("**/*.ipynb")}
    assert len(cards) == len(set(cards))
    assert set(cards) == there - {"index.ipynb", "report.ipynb"}


def test_the_cards_say_what_was_measured():
    cards = re.findall(
        r'<a href="([^"]+)\.ipynb">(?:(?!<a ).)*?(\d+) s of', text_of(ROOT / "notebooks" / "index.ipynb"), re.DOTALL
    )
    measured = re.findall(r"^\| (\S+) \| full \| (\d+) s \|", text_of(ROOT / "docs" / "binder.md"), re.MULTILINE)
    assert len(cards) > 5 and cards == [row for name, _ in cards for row in measured if row[0] == name]
    assert {name for name, _ in measured} - {name for name, _ in cards} == {"app"}  # which is no lesson
