"""All about one run: as JSON, and as people read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..charts import number
from ..metrics import summarised

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..store.failure import Failure

FIGURES = {
    **{key: figure.label for key, figure in summarised().items()},
    "samples_per_s": "samples/s",
}


def tell(run: Run, as_json: bool, text: Callable[[], str]) -> None:
    """Print a run as JSON, or the text."""
    click.echo(json.dumps(record(run), indent=1) if as_json else text())


def record(run: Run) -> dict[str, Any]:
    """All about a run, as JSON takes it."""
    failure = run.failure
    return {
        **run.summary(),
        "remark": run.remark,
        "folder": str(run.folder),
        "failure": asdict(failure) if failure else None,
        "command": run.command,
        "spec": run.spec.to_dict(),
    }


def described(run: Run) -> str:
    """A run as people read it: state, figures, failure, spec, and how to repeat it."""
    summary = run.summary()
    head = "  ".join(filter(None, [run.id, run.name, run.state, "archived" * run.archived]))
    labels = [f"Tags: {', '.join(run.tags)}" * bool(run.tags), run.note]
    lines = [click.style(head, bold=True), *filter(None, [run.remark, *labels]), ""]
    figures = {"step": f"{summary['step']} of {summary['steps'] or '?'}", "time": f"{summary['seconds']:.1f} s"}
    figures |= {told: number(summary[name]) for name, told in FIGURES.items() if summary[name] is not None}
    lines += [f"  {name:<20} {value}" for name, value in figures.items()]
    if failure := run.failure:
        lines += ["", click.style(f"Failed: {failure}", fg="red"), *_calls(run, failure)]
    lines += ["", "Spec:", *(f"  {line}" for line in run.spec.to_yaml().splitlines())]
    lines += ["", "Folder:", f"  {run.folder}", "Again:", f"  {run.command}"]
    return "\n".join(lines)


def _calls(run: Run, failure: Failure) -> list[str]:
    """The user's own line, then the last calls; nothing where no traceback is known."""
    from ..launchers.failures import calls

    own, last = calls(run.store, failure)
    lines = [own] if own else []
    if last:
        lines.append("Last calls, the innermost at the end:")
        lines += [f"  {line}" for call in last for line in call.splitlines()]
    if failure.traceback:
        lines += [f"The whole traceback: lepton-lab logs {run.id}"]
    return [f"  {line}" for text in lines for line in text.splitlines()]
