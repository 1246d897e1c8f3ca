"""What the manifest of an artifact says."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from ..answers import class_axis
from ..host import version
from .inputs import CALLS, DTYPES, SEVERAL, Input, Signature
from .outputs import HELD, Output, first, one, told

if TYPE_CHECKING:
    from .about import About

KINDS: dict[str, type] = {
    **dict.fromkeys(("lab", "created", "model", "parent", "scheme", "runtime", "tokens"), str),
    **dict.fromkeys(("chain", "keep", "labels"), list),
    **dict.fromkeys(("input", "output", "preprocessing", "figures", "check", "measured"), dict),
}
NUMBERS = ("blank", "mask", "start", "pad", "end", "length")  # that a task may say of its answers
LONGEST = 2**14  # tokens that a file's model writes of a sample
STANDARDISED = "(x - mean) / std"
"""What is done to floats that were standardised."""
LARGEST = 2**31  # numbers in a sample, or in its scores


def build(
    about: About,
    scheme: str,
    runtime: str,
    keep: tuple[str, ...],
    figures: dict[str, Any],
    check: Any,
    error: float,
    outputs: Sequence[Output] = (),
) -> dict[str, Any]:
    """
    All that an artifact says of itself but its format and hashes, which `container.pack` adds.

    `figures` are counted: parameters, and multiply_adds of one sample. `check` are scores of the made-up samples as it
    computed them where it was written, and `error` is their largest difference from the module's own. `outputs` are
    what it gives, where that is more than `check` tells.
    """
    outputs = outputs or told(check, check)
    checked = [float(f"{value:.7g}") for value in first(check).reshape(-1)[:HELD]]
    several = isinstance(one(check), dict)
    preprocessing: dict[str, Any] = {"done": "nothing"}  # to raw samples, within the graph
    if about.scaled:
        scaling = {"mean": list(about.mean or (0.0,)), "std": list(about.std or (1.0,))}
        preprocessing = {"done": "(x / 255 - mean) / std" if about.unit == 255 else STANDARDISED, **scaling}
    return {
        "lab": version("lepton-lab") or "0",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": about.model,
        "parent": about.parent,
        "chain": about.chain,
        "scheme": scheme,
        "runtime": runtime,
        "keep": list(keep),
        "input": {"shape": list(about.signature.inputs[0].shape), "dtype": about.dtype, "vocabulary": about.vocabulary},
        "output": {"shape": list(outputs[0].shape), "dtype": outputs[0].dtype} | _named(about),
        **({"outputs": [output.to_dict() for output in outputs]} if several else {}),
        **_more(about),
        "labels": about.labels,
        "tokens": about.tokens,
        "preprocessing": preprocessing,
        "figures": figures,
        "check": {"scores": checked, "error": float(f"{error:.3g}")},
        "measured": about.measured,
    }


def check(manifest: dict[str, Any]) -> None:
    """Hold a manifest of a known format to what `build` makes; ValueError if a part is missing or of another kind."""
    for name, kind in KINDS.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"its manifest lacks {name!r} as a {kind.__name__}")
    takes, figures = manifest["input"], manifest["figures"]
    asked = signature(manifest)
    shapes = [item.sizes or [size or 0 for size in item.shape] for item in asked.inputs]
    shapes += [_sizes(output.shape) for output in outputs(manifest)]
    counts = [takes.get("vocabulary"), figures.get("parameters"), figures.get("multiply_adds")]
    if not all(isinstance(count, int) and count >= 0 for count in counts) or max(map(prod, shapes)) > LARGEST:
        raise ValueError("its manifest tells sizes that no model has")
    for item in asked.inputs:
        if item.dtype not in DTYPES or (item.dtype == "int64" and not (item.vocabulary or item.below)):
            raise ValueError(f"its manifest tells of samples of {item.dtype[:20]!r}")
    if not all(isinstance(label, (str, int, float)) for label in manifest["labels"]):
        raise ValueError("its manifest has labels that are no names")
    scores = (1, *shapes[-1])
    axis = class_axis(scores, classes=len(manifest["labels"]), tokens=takes["dtype"] == "int64")
    scored = manifest["labels"] and "outputs" not in manifest
    if scored and len(manifest["labels"]) < scores[-1 if axis is None else axis]:
        raise ValueError("its manifest has fewer labels than scores")
    _check_answer(manifest.get("task", {}), manifest.get("answer", {}), asked)
    if not isinstance(manifest["check"].get("scores"), list):
        raise ValueError("its manifest lacks the scores to check it by")


def _check_answer(task: Any, answer: Any, asked: Signature) -> None:
    """Refuse, with a ValueError, what is no task, and what none has said of its answers."""
    named = isinstance(task, dict) and isinstance(task.get("name", ""), str)
    if not named or not isinstance(task.get("options", {}), dict):
        raise ValueError("its manifest tells of a task that is none")
    whole = isinstance(answer, dict) and isinstance(answer.get("targets", {}), dict)
    if whole and answer.get("length"):  # of what is written into the second input
        whole = asked.several and len(asked.inputs) > 1 and "end" in answer
    numbers = [answer.get(name, 0) for name in NUMBERS] if whole else [None]
    if not all(isinstance(n, int) and 0 <= n < LARGEST for n in numbers) or answer.get("length", 0) > LONGEST:
        raise ValueError("its manifest tells of answers that no model gives")


def _more(about: About) -> dict[str, Any]:
    """What a manifest says of a model that takes more than raw samples of one shape, and of its task."""
    more: dict[str, Any] = {"task": about.task} if about.task else {}
    if about.inputs:
        more |= {"call": about.call, "inputs": [item.to_dict() for item in about.inputs]}
    return more | ({"answer": about.answer} if about.answer else {})


def outputs(manifest: dict[str, Any]) -> list[Output]:
    """What a file's model gives; ValueError where the manifest tells nothing sound of it."""
    several = manifest.get("outputs", [{"name": "scores", "dtype": "float32", **manifest["output"]}])
    if not isinstance(several, list) or not several:
        raise ValueError("its manifest tells of outputs that are none")
    found = [Output.of(content) for content in several]
    if len({output.name for output in found}) < len(found):
        raise ValueError("its manifest gives two outputs one name")
    return found


def _named(about: About) -> dict[str, str]:
    """Which of a model's outputs it is, where it gives several."""
    return {"name": about.outputs} if about.outputs else {}


def signature(manifest: dict[str, Any]) -> Signature:
    """What a file's model is called with; ValueError where the manifest tells nothing sound of it."""
    inputs, call = manifest.get("inputs", [manifest["input"]]), manifest.get("call", CALLS[0])
    if not isinstance(inputs, list) or not inputs or call not in CALLS or (call not in SEVERAL and len(inputs) > 1):
        raise ValueError("its manifest tells of inputs that are none")
    known = Signature(tuple(Input.of(content) for content in inputs), call)
    if len({*known.names}) < len(known.names):
        raise ValueError("its manifest gives two inputs one name")
    if any(item.like and item.like not in known.names for item in known.inputs):
        raise ValueError("its manifest tells of an input like one that is none")
    return known


def takes(manifest: dict[str, Any]) -> str:
    """What goes in, in words."""
    asked = signature(manifest)
    named = asked.several
    return ", ".join(
        f"{item.name} " * named + " x ".join("any" if n is None else str(n) for n in item.shape) + f" {item.dtype}"
        for item in asked.inputs
    )


def _sizes(shape: Sequence[int | None]) -> list[int]:
    return [size or 0 for size in shape]
