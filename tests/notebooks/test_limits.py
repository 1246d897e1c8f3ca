"""Lessons within the limits of a small Binder: 2 GB for all processes together, two cores, its environment."""

import json
import subprocess
import sys

import psutil
import pytest

from benchmarks import lessons, logs
from benchmarks.__main__ import main
from benchmarks.limits import Limit

HOG = "import time; held = bytearray(b'x') * 300_000_000; print('held', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOG!r}])"


@pytest.mark.parametrize("most, ends", [(200e6, True), (2e9, False)])
def test_what_goes_over_its_limit_is_killed_with_all_below_it(most, ends):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        with Limit(parent.pid, most) as limit:
            if ends:
                parent.wait(30)
            else:
                assert parent.stdout.readline() == "held\n"
                held = psutil.Process(parent.pid).children()
                while limit.peak < 300e6:
                    limit.join(0.1)
                assert all(process.is_running() for process in held)
        assert limit.exceeded is ends
        assert limit.peak > 200e6
        assert limit.peaks["others"] > limit.peaks["server"] > 0  # what is below the top, and the top
        assert not ends or not limit.tree()[1:]
    finally:
        for process in reversed(limit.tree()):
            process.kill()
        parent.communicate()


def test_pages_that_are_no_more_shared_count_for_both():
    rewritten = """
import os, time
held = bytearray(b"x") * 200_000_000
print("held", flush=True)
if os.fork() == 0:
    time.sleep(1.5)  # the pages are known to be shared by now
    held[::4096] = b"y" * len(held[::4096])
    time.sleep(3)
    os._exit(0)
os.wait()
"""
    process = subprocess.Popen([sys.executable, "-c", rewritten])
    with Limit(process.pid, 2e9) as limit:
        assert process.wait(30) == 0
    assert 390e6 < limit.peak < 500e6


def test_the_environment_is_that_of_binder(monkeypatch):
    import os

    monkeypatch.setenv("LEPTON_LAB_PROFILE", "mine")
    with lessons.as_on_binder("smoke"):
        found = {name: os.environ[f"LEPTON_LAB_{name}"] for name in ("MAX_WORKERS", "STANDBY", "PROFILE")}
        cores = len(os.sched_getaffinity(0))
    assert found == {"MAX_WORKERS": "2", "STANDBY": "3", "PROFILE": "smoke"}
    assert cores <= 2
    with lessons.as_on_binder("full"):
        assert "LEPTON_LAB_PROFILE" not in os.environ
    assert os.environ["LEPTON_LAB_PROFILE"] == "mine"


@pytest.mark.slow  # all that uses it is slow
def test_a_notebook_over_its_limit_or_with_an_error_is_refused(tmp_path):
    import nbformat

    def written(code):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        path = tmp_path / "bad.ipynb"
        nbformat.write(book, path)
        return path

    with pytest.raises(lessons.Refused, match=r"bad.ipynb takes more than 0.60 GB: .*kernels \d+ MB"):
        lessons.measure(
            written("held = bytearray(b'x') * 600_000_000\nimport time; time.sleep(60)"), "smoke", most=0.6e9
        )
    with pytest.raises(lessons.Refused, match=r"bad.ipynb: ZeroDivisionError(.|\n)*in the cell\n1 / 0"):
        lessons.measure(written("1 / 0"), "smoke")


@pytest.mark.slow  # as the lessons'
def test_the_app_fits():
    """The workbench alone, in the fast set; the lessons follow in the slow one."""
    taken = lessons.measure(lessons.NOTEBOOKS / "app.ipynb", "smoke")
    assert taken.peaks["server"] > 50e6 and taken.peaks["kernels"] > 50e6
    assert max(taken.peaks.values()) < taken.peak < lessons.MOST


@pytest.mark.slow  # smoke sizes, which take less memory, run in test_notebooks; seconds are the benchmarks'
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", lessons.paths(), ids=lambda path: path.stem)
def test_every_lesson_fits(path):
    taken = lessons.measure(path, "full", patience=1400)  # which refuses what takes more memory than Binder has
    assert taken.peak < lessons.MOST
    if lessons.launches(path):
        assert taken.peaks["supervisor"] and taken.peaks["ranks"], "no run was seen"


def test_rows_are_put_in_place_of_the_old_ones():
    taken = lessons.Taken(12.4, 800_000_000, dict.fromkeys(lessons.ROLES, 100_000_000))
    book = lessons.NOTEBOOKS / "experiments" / "one.ipynb"
    page = f"# Page\n{lessons.BEGIN}\n\n| a |\n| --- |\n\n{lessons.END}\nThe end.\n"
    page = lessons.update(page, [lessons.row(book, "smoke", taken), lessons.row(book, "full", taken)])
    later = lessons.Taken(99, 900_000_000, taken.peaks)
    page = lessons.update(page, [lessons.row(book, "smoke", later)])
    rows = [line for line in page.splitlines() if line.startswith("| experiments/one")]
    assert rows == [
        "| experiments/one | full | 12 s | 800 | 100 | 100 | 100 | 100 | 100 |",
        "| experiments/one | smoke | 99 s | 900 | 100 | 100 | 100 | 100 | 100 |",
    ]
    assert page.startswith("# Page\n") and page.endswith("\nThe end.\n")


def test_a_card_tells_the_seconds_that_were_measured(tmp_path, monkeypatch):
    import shutil

    shutil.copy(lessons.NOTEBOOKS / lessons.LANDING, tmp_path)
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    before = (tmp_path / lessons.LANDING).read_text()
    lessons.clock(tmp_path / "02_strategies.ipynb", 1000.4)
    lessons.clock(tmp_path / "app.ipynb", 4)  # which has a card, but is no lesson
    after = (tmp_path / lessons.LANDING).read_text()
    changed = [line.strip() for line in after.splitlines() if line not in before.splitlines()]
    assert changed == [r'"<br><small>1000 s of computing on two cores</small>\n",']


def test_figures_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path, older = tmp_path / "figures.json", tmp_path / "older.json"
    monkeypatch.setenv("LEPTON_LAB_HOME", str(tmp_path))  # which it sets, to be put back
    monkeypatch.setattr(logs, "measure", lambda quick: [])
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "logs", "--json", str(path)])
    assert main() == 0 and json.loads(text := path.read_text())["topics"] == {"logs": []}
    older.hardlink_to(path)  # who reads it meanwhile
    assert main() == 0 and json.loads(path.read_text())["topics"] == {"logs": []}
    assert older.read_text() == text and not older.samefile(path)
