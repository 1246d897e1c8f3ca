"""The Learner in a real browser: from a slider that is let go to the whole new curve."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from .processes import installed, python
from .rows import Row

TITLE = "Learner in JupyterLab in a headless Chromium, digits"
CELL = "from lepton_widgets import Learner\nlearner = Learner()\nlearner"
WHOLE = """() => {
  const {run, drawn, last, epochs} = document.querySelector(".ll-learner")?.dataset ?? {};
  return run && drawn === run && last === epochs;
}"""
# Sets a slider as a hand does, and resolves in the frame after the one that drew the end of the new curve.
MOVE = """([name, index]) => new Promise((resolve) => {
  const root = document.querySelector(".ll-learner");
  const labels = [...root.querySelectorAll(".ll-knob")];
  const slider = labels.find((label) => label.firstChild.textContent === name).querySelector("input");
  const before = root.dataset.drawn, began = performance.now();
  slider.value = index;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  let first = null;
  const frame = () => {
    const { drawn, last, epochs } = root.dataset;
    if (drawn !== before && Number(last) > 0) first ??= performance.now();
    if (drawn !== before && last === epochs)
      return requestAnimationFrame(() => resolve([(first - began) / 1000, (performance.now() - began) / 1000]));
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""
MOVES = [("Learning rate", 5), ("Learning rate", 7), ("Hidden units", 6), ("Dropout", 3), ("L2 (weight decay)", 4)]
MOVES += [("Momentum", 2), ("Learning rate", 10), ("Batch size", 2), ("Batch size", 1), ("Hidden units", 3)]
MOVES += [("Batch size", 4), ("Learning rate", 8), ("Momentum", 4), ("Dropout", 1), ("L2 (weight decay)", 6)]
"""One at a time, none a place where the sliders have been."""


def measure(quick: bool) -> list[Row]:
    """Rows of seconds; none where Playwright is not installed."""
    if not installed("playwright"):
        return []
    moves = MOVES[:3] if quick else MOVES
    times = python("learner", len(moves))
    first, whole = zip(*times["seconds"], strict=True)
    worst = max(zip(whole, moves, strict=True))[1]
    return [
        Row(f"slider let go to the whole new curve, {len(moves)} moves (slowest: {worst[0]})", whole, "s", at_most=2),
        Row("slider let go to the end of the first epoch", first, "s"),
    ]


def main(moves: str) -> dict[str, object]:
    """Open a notebook with a Learner, and move its sliders as often."""
    from playwright.sync_api import sync_playwright

    from tests.browser.jupyter import QUIET, Jupyter, Notebook, chromium_path, write_notebook

    folder = Path(tempfile.mkdtemp(prefix="lepton-lab-bench-"))
    jupyter = Jupyter(folder)
    try:
        write_notebook(jupyter.work / "learner.ipynb", CELL)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)
            book = Notebook(browser.new_page(viewport={"width": 1280, "height": 1200}), jupyter, "learner.ipynb")
            book.run_all()
            book.page.wait_for_function(WHOLE, timeout=60_000)
            book.page.wait_for_timeout(1000)
            seconds = []
            for move in MOVES[: int(moves)]:
                seconds.append(book.page.evaluate(MOVE, list(move)))
                book.page.wait_for_timeout(700)  # a hand rests too, and the run's process ends
            browser.close()
    finally:
        jupyter.close()
        shutil.rmtree(folder)
    return {"seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
