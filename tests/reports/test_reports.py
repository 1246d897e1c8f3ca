"""Reports: one offline page from real runs, and the notebook behind it under plain papermill."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import ROOT, Page

import lepton_lab as lab
from lepton_lab import reports
from lepton_lab.cli import main
from lepton_lab.reports import sections
from lepton_lab.store.folder import ENDED

NOTEBOOK = ROOT / "notebooks" / "report.ipynb"


def charts_of(page):
    """The images of a page that are no samples."""
    return [img for img in page.all("img") if "sample" not in img.get("class", "")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory, standby):
    """A run root with three real runs: two that are done and one that failed."""
    with pytest.MonkeyPatch.context() as own:
        root = tmp_path_factory.mktemp("archive")
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        spec = lab.Spec(model="mlp", epochs=2)
        specs = [spec, spec.replace(lr=0.01, world=2, name="two <ranks>"), spec.replace(optimizer="sgd", lr=1e30)]
        states = [lab.launch(spec).wait(60) for spec in specs]
        assert states == ["done", "done", "failed"]
        yield root


@pytest.fixture
def runs(home, archive, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_HOME", str(archive))
    return lab.runs()[::-1]


@pytest.fixture(scope="module")
def page(archive, tmp_path_factory):
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(archive))
        out = tmp_path_factory.mktemp("out") / "new" / "report.html"
        assert lab.report(lab.runs()[::-1], out) == out
        return Page(out)


def test_the_page_needs_nothing_else(page):
    assert len(page.source.encode()) < 1_000_000
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?https?:""", page.source)
    assert "@import" not in page.source and "widget" not in page.source
    pictures = charts_of(page)
    assert len(pictures) == 7  # loss, accuracy, two confusions, throughput, learning rate, timeline
    assert all(img["src"].startswith("data:image/png;base64,") and len(img["alt"]) > 40 for img in pictures)


def test_every_figure_can_be_drawn_again_by_the_command_below_it(page, runs, tmp_path):
    drawn = r'lepton-picture"[^>]*base64,([^"]+)".*?<figcaption>Again: <code>lepton-lab ([^<]+)</code>'
    figures = re.findall(drawn, page.source, re.S)
    assert len(figures) == len(charts_of(page))
    for picture, command in [figures[0], figures[-1]]:  # of all runs, and of one
        words = shlex.split(html.unescape(command))
        words[-1] = str(tmp_path / words[-1])
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        assert Path(done.stdout.strip()).read_bytes() == base64.b64decode(picture)


def test_a_figure_that_can_t_be_written_is_a_sentence(runs, tmp_path):
    done = CliRunner().invoke(main, ["report", runs[0].id, "--figure", "loss", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "name another file" in done.output


def test_the_same_runs_give_the_same_page_but_for_the_time_it_tells(page, runs, tmp_path):
    again = Page(lab.report(runs, tmp_path / "again.html"))
    pages = [re.sub(r'(<p class="made">Made )[^<]+', r"\1", one.source) for one in (page, again)]
    assert "Made " in pages[0] and pages[0] == pages[1]


def test_the_page_reads_anywhere(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "(prefers-color-scheme: dark)" in page.source and "@media print" in page.source


def test_the_page_shows_no_code(page):
    assert "run_ids" not in page.text and "CHARTS" not in page.text and "import " not in page.text


def test_the_page_tells_all(page, runs):
    for run in runs:
        assert run.id in page.text
        assert run.command in page.text
    for part in (
        "Final figures",
        "Curves",
        "Confusion",
        "Timings",
        "Where the time went",
        "Specification",
        "Provenance",
    ):
        assert part in page.text
    for version in runs[0].provenance["versions"].values():
        assert version in page.text
    accuracy = runs[0].summary()["test_accuracy"]
    assert f"{accuracy:.4g} of 179 samples" in page.text


def test_costs_are_told_by_rank(page, runs):
    for rank in (0, 1):
        assert f"two <ranks>, rank {rank}" in page.text
    cost = runs[1].costs()[0]
    assert f"({cost['compute'] / cost['seconds']:.0%})" in page.text


def test_what_differs_is_marked(page):
    marked = re.findall(r'<tr class="marked"><th scope="row">≠ (\w+)</th>', page.source)
    assert set(marked) == {"lr", "world", "name", "optimizer"}


def test_a_failure_is_a_card(page, runs):
    failure = runs[2].failure
    assert 'class="failure"' in page.source
    assert failure.message in page.text and failure.type in page.text
    assert "no confusion matrix" in page.text


def test_names_are_text_not_markup(page):
    assert "two <ranks>" in page.text
    assert not page.all("ranks")


INSIDE = """
import asyncio, sys, lepton_lab as lab
async def inside():  # as in a notebook's kernel
    lab.report(sys.argv[1], sys.argv[2])
asyncio.run(inside())
"""


def test_one_run_by_its_id_and_from_a_running_loop_without_a_word(runs, tmp_path):
    words = [sys.executable, "-W", "error", "-c", INSIDE, runs[0].id, str(tmp_path / "one.html")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = Page(tmp_path / "one.html")
    assert "Report on mlp on digits" in page.text
    assert 'class="marked"' not in page.source


def test_a_run_that_goes_on_is_reported_as_that(tiny):
    run = lab.launch(tiny.replace(epochs=100_000, eval_every=0, checkpoint_every=0))
    try:
        while not run.summary()["step"]:
            assert run.state not in ENDED
        told = reports.heading([run])
        assert "still going" in told.html and "still going" in told.text
        assert reports.figures([run]).html and reports.timings([run]).html
    finally:
        run.stop()
        run.wait(60)
    assert "did not run to its end" in reports.heading([run]).text


def test_a_run_without_events_is_reported(home):
    from lepton_lab.store.folder import RunFolder

    run = lab.attach(RunFolder.create(lab.Spec()).id)
    for section in (
        reports.heading,
        reports.failures,
        reports.figures,
        reports.spec,
        reports.timings,
        reports.costs,
        reports.provenance,
    ):
        assert section([run]).text
    assert "its processes are gone" in reports.heading([run]).html
    assert run.remark.endswith("resume goes on from the start")


@pytest.mark.parametrize("wrap", [list, json.dumps, lambda ids: str(ids).replace("'", ""), tuple])
def test_run_ids_may_be_a_list_or_text(runs, wrap):
    assert reports.find(wrap([runs[0].id, runs[1].id, runs[0].id])) == runs[:2]


def test_run_ids_may_be_one_or_none(runs):
    assert reports.find(runs[1].id) == reports.find(runs[1]) == [runs[1]]
    assert reports.find([]) == reports.find("") == reports.find("[]") == [lab.attach()]


@pytest.mark.parametrize("name", ["1e5", "NaN", "12"])
def test_a_name_that_looks_like_a_number_is_found(runs, name):
    runs[0].rename(name)
    assert reports.find(name) == reports.find(f"[{name}]") == [runs[0]]
    runs[0].rename("")


@pytest.mark.slow
def test_papermill_shows_what_the_page_shows(page, runs, tmp_path):
    out = tmp_path / "out.ipynb"
    words = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out)]
    words += ["-p", "run_ids", json.dumps([run.id for run in runs]), "--no-progress-bar"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    notebook = json.loads(out.read_text())
    outputs = [output["data"] for cell in notebook["cells"] for output in cell.get("outputs", []) if "data" in output]
    assert sum("application/vnd.plotly.v1+json" in data for data in outputs) == len(charts_of(page))
    pieces = [re.sub(r"Made [^<]+", "Made ", "".join(data["text/html"])) for data in outputs]
    whole = re.sub(r"Made [^<]+", "Made ", page.source)
    assert [piece[:80] for piece in pieces if piece not in whole] == []
    words = "".join("".join(cell["source"]) + "\n" for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    headings = re.findall(r"<h2>([^<]+)</h2>", page.source)
    assert re.findall(r"^## (.+)$", words, re.MULTILINE) == [title for title in headings if "failed" not in title]
    for text in re.findall(r"^[^#\n].+$", words, re.MULTILINE):
        assert f"<p>{html.escape(text)}</p>" in page.source
    assert "widgets" not in notebook["metadata"]


def test_fields_that_are_lists_and_figures_that_are_too_many_for_columns_can_be_read():
    told = {name: sections._value(value) for name, value in lab.Spec(metrics=["f1", "roc_auc"]).to_dict().items()}
    assert told["metrics"] == "f1, roc_auc" and told["compress"] == "\u2013"
    assert sections._value([{"prune": {"ratio": 0.5}}, {"quantize": {}}]) == "prune 0.5, quantize"
    for count, head in ((3, "run figure0 figure1 figure2"), (20, "run one")):
        line = {"run": "one", **{f"figure{i}": str(i) for i in range(count)}}
        assert sections._table("Figures", [line], "").text.splitlines()[1].split() == head.split()


def test_a_part_that_can_t_be_made_says_so_and_the_others_stand(runs, tmp_path):
    record = runs[0].folder / "provenance.json"
    whole = record.read_text()
    try:
        record.write_text('{"versions": 3}')
        page = Page(lab.report(runs[0], tmp_path / "page.html"))
    finally:
        record.write_text(whole)
    assert "This part could not be made: " in page.text and "Final figures" in page.text and page.all("img")
