"""Help in a lesson: exercises that check themselves, and a sentence for a cell that is run too early."""

from __future__ import annotations

import contextlib
import json
import os
import re
import symtable
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from lepton_lab.charts.series import number
from lepton_lab.errors import SpecError, unknown
from lepton_lab.files import NOTEBOOKS
from lepton_lab.tables import pick

from .exercises import EXERCISES

if TYPE_CHECKING:
    from types import TracebackType

    from IPython.core.interactiveshell import InteractiveShell

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
EXACT = 1e-9  # of what is right: how far off floats may be that mean the number itself
ALIKE = 0.6  # of a cell's text, from which on it is a cell of the lesson that the reader has changed


class Cell(NamedTuple):
    """One code cell of a lesson."""

    source: str
    heading: str
    """The nearest heading above it."""
    place: int
    """Which of the code cells under that heading it is, from 0."""
    alone: bool
    """Whether it is the only one."""
    makes: frozenset[str]
    """Names that it gives a value, imports or defines."""

    def __str__(self) -> str:
        """What a person finds it by."""
        order = ORDINALS[self.place] + " " if self.place < len(ORDINALS) else f"{self.place + 1}th "
        return f"the {'' if self.alone else order}cell under “{self.heading}”"


def begin(lesson: str) -> None:
    """
    Begin a lesson: from here on, a cell that is run too early says in one sentence which cell it needs.

    Called in a lesson's first cell. Outside of IPython there are no cells, and nothing is done.

    Parameters
    ----------
    lesson
        Name of its notebook, such as "01_optimizers", as it ships with the library.

    Raises
    ------
    SpecError
        If there is no such lesson.
    """
    from IPython import get_ipython

    cells = read(lesson)
    if shell := get_ipython():
        _help(shell, cells)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """
    Help from a kernel's start, when a lesson's first cell was not run yet.

    IPython calls this in each kernel of an environment in which the library is installed
    (`etc/ipython/ipython_kernel_config.py`); Jupyter's server names the notebook in JPY_SESSION_NAME.
    """
    with contextlib.suppress(SpecError):  # most notebooks are no lessons
        _help(shell, read(PurePath(os.environ.get("JPY_SESSION_NAME", "")).stem))


def _help(shell: InteractiveShell, cells: list[Cell]) -> None:
    """Let a NameError in a cell of a lesson say which of its cells is needed."""

    def explain(
        shell: InteractiveShell,
        kind: type[NameError],
        error: NameError,
        trace: TracebackType,
        tb_offset: int | None = None,
    ) -> None:
        if sentence := _needed(cells, shell, error, trace):
            error.args = (sentence,)
            error._render_traceback_ = lambda: [f"{kind.__name__}: {sentence}"]  # IPython's hook: this, and no trace
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset, running_compiled_code=True)

    shell.set_custom_exc((NameError,), explain)


def exercise(name: str, answer: Any, **facts: float) -> None:
    """
    Say whether an answer is right, and help on where it is not.

    Parameters
    ----------
    name
        Lesson and number, a name of EXERCISES, such as "01.2".
    answer
        A number; None, or `...`, as long as nobody has answered.
    **facts
        What the cell knows, and the right answer depends on.

    Raises
    ------
    SpecError
        If there is no such exercise.
    """
    truth, hint, within = pick(EXERCISES, name, "exercise")
    if answer is None or answer is ...:
        print("Waits for your answer: put it in place of None, and run the cell again.")
        return
    right = float(truth(**facts))
    try:
        value = float(answer)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):  # RuntimeError: a tensor of several numbers
        print(f"Not yet: {answer!r:.40} is no number. Hint: {hint}")
        return
    if abs(value - right) <= max(within, EXACT) * abs(right):
        print(f"Right: {number(right)}.")
    elif value != value:
        print(f"Not yet: nan is no number. Hint: {hint}")
    else:
        print(f"Not yet: {number(value)} is {'too much' if value > right else 'too little'}. Hint: {hint}")


def read(lesson: str) -> list[Cell]:
    """
    The code cells of a lesson.

    Raises
    ------
    SpecError
        If there is no such lesson.
    """
    lessons = {path.stem: path for path in NOTEBOOKS.rglob("*.ipynb")}
    if lesson not in lessons:
        raise SpecError(f"lesson={lesson!r}: {unknown('lesson', lesson, lessons)}")
    sections: list[tuple[str, list[str]]] = [(lesson, [])]
    for cell in json.loads(lessons[lesson].read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            sections[-1][1].append(source)
        elif headings := re.findall(r"^#+ +(.+)$", source, re.MULTILINE):
            sections.append((headings[-1].strip(), []))
    return [
        Cell(source, heading, place, len(sources) == 1, _made(source))
        for heading, sources in sections
        for place, source in enumerate(sources)
    ]


def _made(source: str) -> frozenset[str]:
    """Names that a cell makes at its outermost level."""
    try:
        names = symtable.symtable(source, "cell", "exec").get_symbols()
    except SyntaxError:  # IPython's own, such as %magic
        return frozenset()
    return frozenset(name.get_name() for name in names if name.is_assigned() or name.is_imported())


def _needed(cells: list[Cell], shell: InteractiveShell, error: NameError, trace: TracebackType) -> str:
    """The sentence for a missing name; "" where no cell of the lesson makes it, or it is missing in other code."""
    while trace.tb_next:
        trace = trace.tb_next
    ours = trace.tb_frame.f_globals is shell.user_ns and not isinstance(error, UnboundLocalError)
    name = error.name
    makers = [i for i, cell in enumerate(cells) if name in cell.makes]
    if not ours or not makers or name in shell.user_ns:
        return ""
    here = _position(cells, shell.user_ns["In"][-1])
    above = [i for i in makers if i < here]
    if makers == [here]:
        return ""
    chosen = cells[above[-1] if above else makers[0]]
    rest = "; in JupyterLab, Run > Run All Above Selected Cell runs all that this one needs" if above else ""
    return f"`{name}` is not there yet: run {chosen} first{rest}."


def _position(cells: list[Cell], source: str) -> int:
    """Which cell of the lesson was run, though the reader may have changed it; -1 if none."""
    alike = get_close_matches(source, [cell.source for cell in cells], n=1, cutoff=ALIKE)
    return next((i for i, cell in enumerate(cells) if alike and cell.source == alike[0]), -1)
