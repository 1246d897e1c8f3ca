"""What a report says in words and tables; each function returns a `Section`, which a notebook shows as HTML."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..chains import listed
from ..charts.series import number, read
from ..section import NONE, Section, escaped, table
from ..store.folder import ENDED
from ..store.naming import labels, title
from ..store.nodes import named
from ..strategies.work import shown as size

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..store.failure import Failure
MEASURED = (
    "Training: mean over the batches of the last whole epoch, as they were while the model changed. Validation: the "
    "whole set, at the last evaluation. Test: the whole set, at the end. Accuracies are fractions."
)
TIMED = (
    "To first step: from the start of its processes to the end of the first optimizer step. Training: seconds between "
    "the steps of an epoch, without evaluations, checkpoints and pauses; samples/s are over all ranks in that time, as "
    "the median and range of up to 40 stretches of the run. Whole run: all that its processes worked, without the time "
    "in the queue, in pauses, and between an end and a resume. Memory: the highest proportional set size (PSS) of a "
    "training process."
)
WIDEST = 11  # columns of a table of figures that a page has room for
COSTS = (
    "Means over the last steps that were recorded. Compute: operators, and Python between them. Communication: data "
    "moves and the rank does not compute. Idle: it waits for another rank, or for a processor. Behind: how much later "
    "it comes to a collective operation than the first. Memory: bytes of tensors at the highest moment of a step. "
    "Sent: as the kernel counts it on the connections of the process, or (≈) by the sizes of the operations."
)


def heading(runs: list[Run]) -> Section:
    """Title, date, and each run's state, figures and folder in a line."""
    heading = f"Report on {labels(runs)[0]}" if len(runs) == 1 else f"Report on {len(runs)} runs"
    made = time.strftime("%d %B %Y, %H:%M %Z")
    lines = [(run, label, _progress(run)) for run, label in _named(runs)]
    items = "".join(
        f"<li>{badge(run.state)} <strong>{escaped(label)}</strong>{_id(run, label)}: {escaped(progress)}</li>"
        for run, label, progress in lines
    )
    text = "\n".join([heading, *(f"{run.id} ({run.state}) {label}: {progress}" for run, label, progress in lines)])
    return Section(f'<h1>{escaped(heading)}</h1><p class="made">Made {made}</p><ul class="runs">{items}</ul>', text)


def failures(runs: list[Run]) -> Section:
    """A card for each run that failed: rank, error, place, step, the other ranks, and what to do."""
    failed = [(run, label, run.failure) for run, label in _named(runs) if run.failure]
    cards = "".join(_card(run, label, failure) for run, label, failure in failed)
    return Section(cards, "\n".join(f"{run.id} failed: {failure}" for run, _, failure in failed) or "No run failed.")


def figures(runs: list[Run]) -> Section:
    """Final figures of each split, how many samples they were measured on, and the best validation."""
    of = metrics.joined(run.metrics for run in runs)
    before = metrics.figures("train", names=metrics.steps(), of=of) | metrics.figures("val", of=of)
    judge, lines = metrics.main(of), []
    averaged = {
        key: figure
        for key, figure in metrics.summarised(of).items()
        if figure.averaged and any(key in read(run).curves for run in runs)
    }
    for run, label in _named(runs):
        curves, summary = read(run).curves, run.summary()
        last = {name: number(curve.y[-1]) for name, curve in curves.items()}
        best = curves.get(f"val_{judge}")
        at = max(range(len(best.y)), key=best.y.__getitem__) if best else 0
        after = {figure.label: last.get(key, NONE) for key, figure in metrics.figures("test", of=of).items()}
        lines.append(
            {"run": label, "steps": f"{summary['step']} of {summary['steps'] or '?'}"}
            | {figure.label: last.get(key, NONE) for key, figure in before.items()}
            | {"best of these": f"{number(best.y[at])} at step {best.x[at]:.0f}" if best else NONE}
            | after
            | {metrics.Figure(judge, "test").label: _of(run, last.get(f"test_{judge}"))}
            | {figure.label: last.get(key, NONE) for key, figure in averaged.items()}
            | ({"kept as the best": _kept(run)} if any(other.spec.keep_best for other in runs) else {})
        )
    return _table("Final figures", lines, MEASURED)


def spec(runs: list[Run]) -> Section:
    """Every field of every run's spec; those that differ come first and are marked."""
    specs = [run.spec.to_dict() for run in runs]
    differing = [name for name in specs[0] if any(s.get(name) != specs[0][name] for s in specs)]
    names = [*differing, *(name for name in specs[0] if name not in differing)]
    rows = [["≠ " * (name in differing) + name, *(_value(s.get(name)) for s in specs)] for name in names]
    note = f"≠ marks what differs: {', '.join(differing)}." if differing else ""
    return table("Specification", ["field", *labels(runs)], rows, note, marked="≠")


def timings(runs: list[Run]) -> Section:
    """Where each run's time went, and its throughput."""
    lines = [{"run": label} | _timing(run) for run, label in _named(runs)]
    return _table("Timings", lines, TIMED)


def costs(runs: list[Run]) -> Section:
    """What a step costs each rank: time by kind, memory by part, its share of the samples, and bytes sent."""
    costs = [(label, cost) for run, label in _named(runs) for cost in run.costs()]
    if not costs:
        return Section("<p>No run was recorded long enough: the first steps recorded are the 11th to 13th.</p>", NONE)
    lines = [{"rank": f"{label}, rank {cost['rank']}"} | _cost(cost) for label, cost in costs]
    return _table("Costs of a step", lines, COSTS)


def provenance(runs: list[Run]) -> Section:
    """Versions, seed, device, processor, threads, git revision, and the command that repeats each run."""
    columns = [_origin(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, NONE) for column in columns)] for name in names]
    commands = "".join(
        f"<p>{escaped(label)}, again:</p><pre><code>{escaped(run.command)}</code></pre>" for run, label in _named(runs)
    )
    origins = table("Provenance", ["", *labels(runs)], rows)
    return Section(origins.html + commands, "\n".join([origins.text, *(run.command for run in runs)]))


def _table(title: str, lines: list[dict[str, str]], note: str) -> Section:
    """A table of figures by their names, which are rows where they are too many for columns."""
    rows = [list(lines[0]), *(list(line.values()) for line in lines)]
    if len(rows[0]) > WIDEST >= len(lines):
        rows = [list(row) for row in zip(*rows, strict=True)]
    return table(title, rows[0], rows[1:], note, numeric=True)


def _named(runs: list[Run]) -> list[tuple[Run, str]]:
    return list(zip(runs, labels(runs), strict=True))


def _progress(run: Run) -> str:
    summary = run.summary()
    done = f"{summary['step']} of {summary['steps']} steps" if summary["steps"] else "no step yet"
    what = f"{title(run.spec)}, {run.spec.world} × {run.spec.strategy}"
    words = f"{what}, {done} in {seconds(summary['seconds'])}"
    if run.state not in ENDED:
        words += "; it was still going when this report was made"
    elif run.state != "done":
        words += "; it did not run to its end"
    if run.nodes:
        words += f"; on {named(run.nodes)}"
    if run.remark:
        words += f" ({run.remark})"
    return "; ".join([words, *tested(summary)])


def tested(summary: dict[str, Any]) -> list[str]:
    """What the test came to, in words; nothing before it."""
    judge = metrics.Figure(metrics.main(), "test")
    value = summary[judge.key]
    return [] if value is None else [f"{judge.label} {number(value)}"]


def _card(run: Run, label: str, failure: Failure) -> str:
    facts = {
        "rank": failure.rank if failure.rank >= 0 else "supervisor",
        "where": failure.where,
        "after step": failure.step,
        "last good checkpoint": f"step {failure.checkpoint}" if failure.checkpoint is not None else "none",
        "other ranks": failure.where_others(),
    }
    items = "".join(f"<dt>{k}</dt><dd>{escaped(v)}</dd>" for k, v in facts.items() if v not in ("", None))
    trace = f"<details><summary>Traceback</summary><pre>{escaped(failure.traceback.strip())}</pre></details>"
    return (
        f'<section class="failure"><h2>{escaped(label)} failed{_id(run, label)}</h2>'
        f"<p><strong>{escaped(failure.type)}</strong>: {escaped(failure.message)}</p><dl>{items}</dl>"
        f"{trace if failure.traceback else ''}</section>"
    )


def _timing(run: Run) -> dict[str, str]:
    story, summary = read(run), run.summary()
    evaluation = sum(story.evaluating.values())
    rate = story.curves.get("samples_per_s")
    starts = (row["t"] for row in story.states if row["state"] == "starting" and row["t"] <= (story.first or 0))
    began = max(starts, default=summary["created"])
    memory = max((rank.peaks["memory"] for rank in story.ranks.values() if rank.peaks), default=None)
    return {
        "to first step": seconds(story.first - began) if story.first else NONE,
        "training": seconds(story.seconds) if story.seconds else NONE,
        "evaluation": seconds(evaluation) if evaluation else NONE,
        "whole run": seconds(summary["seconds"]),
        "samples/s": number(median(rate.y)) if rate else NONE,
        "range": f"{number(min(rate.y))} to {number(max(rate.y))}" if rate else NONE,
        "ranks": str(run.spec.world),
        "memory a rank": f"{memory / 1e6:.0f} MB" if memory else NONE,
    }


def _cost(cost: dict[str, Any]) -> dict[str, str]:
    seconds, memory = cost["seconds"], cost["memory"]
    kinds = ("compute", "communication", "idle")
    return {
        "step": _milliseconds(seconds),
        **{kind: f"{_milliseconds(cost[kind])} ({cost[kind] / seconds:.0%})" for kind in kinds},
        "behind": NONE if cost["behind"] is None else _milliseconds(cost["behind"]),
        "samples": NONE if cost["share"] is None else f"{cost['share']:.0%}",
        "sent a step": ("" if cost["counted"] == "kernel" else "≈ ") + size(cost["bytes"]),
        "memory": size(memory["peak"]),
        **{part: size(memory[part]) for part in ("parameters", "gradients", "optimizer", "activations")},
    }


def _origin(run: Run) -> dict[str, str]:
    origin = run.provenance
    git = origin.get("git")
    revision = git["revision"][:12] + (" with changes" if git["dirty"] else "") if git else "not in a repository"
    facts = {
        "run": run.id,
        "launched": time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run.summary()["created"])),
        "seed": str(run.spec.seed),
        "device": run.facts.get("device_name") or origin.get("device", NONE),
        "processor": origin.get("processor", NONE),
        "cores": str(origin.get("cores", NONE)),
        "threads a rank": str(origin.get("threads", NONE)),
        "platform": origin.get("platform", NONE),
        "git revision": revision,
    }
    if data := origin.get("data"):
        facts["data"] = f"{data['name']} ({_kept_of(data)})"
    return {**facts, **origin.get("versions", {}), "folder": str(run.folder)}


def _kept_of(data: dict[str, Any]) -> str:
    """What provenance has of data: a licence, or a digest of files by path."""
    if "licence" in data:
        return f"licence: {data['licence']}"
    return f"{data['files']:,} files, {size(data['bytes'])}, digest {data['digest']} of {data['of']}"


def _of(run: Run, figure: str | None) -> str:
    tests = read(run).evaluations.get("test")
    return f"{figure} of {tests.latest('samples'):.0f} samples" if tests and figure else NONE


def _kept(run: Run) -> str:
    """The checkpoint that its `keep_best` keeps."""
    best = run.facts.get("best")
    return f"{best['metric']} {number(best['figure'])} at step {best['step']}" if best else NONE


def _value(value: Any) -> str:
    if isinstance(value, list):
        return listed(value) or NONE
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or NONE
    return {"": NONE, True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, str | bool) else str(value)


def seconds(count: float) -> str:
    """A time as people write it."""
    if count < 120:
        return f"{count:.3g} s"
    minutes, rest = divmod(round(count), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def badge(state: str) -> str:
    """A state as a small label."""
    return f'<span class="state {state}">{state}</span>'


def _id(run: Run, label: str) -> str:
    return f" <code>{run.id}</code>" if label != run.id else ""
