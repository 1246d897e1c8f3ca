"""What is said when a value is refused: its field, the value, what is allowed, and the nearest right name."""

from __future__ import annotations

import difflib
import importlib.util
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

# What people type who come from other tools; difflib can't guess these.
SYNONYMS = {
    "learning_rate": "lr",
    "workers": "world",
    "num_nodes": "world",
    "num_processes": "world",
    "nproc": "world",
    "world_size": "world",
    "batch": "batch_size",
    "l2": "weight_decay",
    "amp": "precision",
    "scheduler": "schedule",
    "data": "dataset",
}
BOUNDS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "dict": "pairs of name and value",
    "list": "a list",
    "tuple": "a list",
}
INVISIBLE = ("Cc", "Cf", "Cs")  # Unicode's categories of control and direction characters, and halves of characters
LONGEST = 100  # characters of a value that are shown
FINITE = ConfigDict(allow_inf_nan=False)
EXTRAS = {
    "babel": "nlp",
    "IPython": "notebook",
    "PIL": "data",
    "pyarrow": "data",
    "soundfile": "data",
    "anywidget": "notebook",
    "ipywidgets": "notebook",
    "jupyterlab": "notebook",
    "jinja2": "report",
    "matplotlib": "report",
    "plotly": "report",
    "onnx": "compress",
    "onnxruntime": "compress",
    "onnxscript": "compress",
    "torch_pruning": "compress",
    "fastapi": "deploy",
    "uvicorn": "deploy",
    "captum": "explain",
    "peft": "nlp",
    "tokenizers": "nlp",
    "transformers": "nlp",
    "s3fs": "s3",
    "optuna": "search",
    "ray": "ray",
    "submitit": "slurm",
}
"""What only some need: the library as it is imported, and the extra of lepton-lab that brings it."""


class LabError(Exception):
    """Something a user can put right; its message is one sentence that says how."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: the sentence is the whole story, our frames would only bury it.
        return [f"{type(self).__name__}: {self}"]


class SpecError(LabError, ValueError):
    """A value was refused before anything started."""


class Missing(LabError, ImportError):
    """A library that an extra brings is not installed."""


def needs(what: str, *libraries: str) -> None:
    """Refuse `what` where one of the libraries, names of EXTRAS, is missing: a Missing says which extra has it."""
    for name in libraries:
        if remedy := brings(name):
            raise Missing(f"{what} needs {name}, which is not installed: {remedy}", name=name)


def brings(library: str) -> str:
    """The command that installs a library of EXTRAS; "" where it is here."""
    return "" if importlib.util.find_spec(library) else f"pip install 'lepton-lab[{EXTRAS[library]}]'"


def visible(field: str, text: str, but: str = "") -> str:
    """The text, refused where characters in it, `but` these, can't be seen, or would steer a terminal."""
    if hidden := [c for c in text if unicodedata.category(c) in INVISIBLE and c not in but]:
        raise SpecError(f"{field}={text!a}: must have no control or other invisible characters, such as {hidden[0]!a}")
    return text


def whole(field: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise SpecError(f"{field}={value!r}: must be a whole number, at least {least}")


def sizes(field: str, values: Any) -> tuple[int, ...]:
    """Batch sizes as a tuple; refused where they are no list of whole numbers of at least 1."""
    if isinstance(values, str) or not isinstance(values, Iterable) or not (counts := tuple(values)):
        raise SpecError(f"{field}={shown(values)}: must be a list of whole numbers, each at least 1, such as (1, 64)")
    for count in counts:
        whole(field, count, 1)
    return counts


def shown(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """One sentence on an unknown name: the nearest one and all that are known."""
    names = ", ".join(known) or "none"
    return f"unknown {kind}{nearest(name, known)} (known{' ' + where if where else ''}: {names})"


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint "; did you mean ...?", or nothing if no known name is near."""
    near = SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name.lower(), known, 1, 0.5)), "")
    return f"; did you mean {near!r}?" if near in known else ""


def fitted(
    options: Mapping[str, Any], rules: Mapping[str, tuple[FieldInfo, str]], show: Callable[[str, Any], str], where: str
) -> dict[str, Any]:
    """
    Values of options as their rules take them: type and bounds of each, and whose option it is.

    `show` gives an option with its value, as a sentence on it begins; `where` says whose options all of them are. A
    SpecError has one sentence for each option that is refused.
    """
    values, refused = {}, []
    for option, value in options.items():
        if option not in rules:
            refused.append(f"{show(option, value)}: {unknown('option', str(option), rules, where)}")
            continue
        rule, entry = rules[option]
        kind: Any = Annotated[rule.annotation, rule]
        # pydantic would take True for 1.
        plain = str(value) if isinstance(value, bool) and rule.annotation is not bool else value
        try:
            values[option] = TypeAdapter(kind, config=FINITE).validate_python(plain)
        except ValidationError as error:
            refused.append(f"{show(option, value)}: {must(error.errors()[0], rule)} ({entry})")
    if refused:
        raise SpecError("\n".join(refused))
    return values


def must(error: Mapping[str, Any], field: FieldInfo) -> str:
    """What a refused value must be, as the end of a sentence: of pydantic's error, and the field's type and bounds."""
    kind = error["type"]
    if kind.startswith(("greater_than", "less_than")):
        bounds = _range(field)  # none where the value is a part of what the field holds
        return f"must be {bounds}" if bounds else error["msg"].replace("Input should", "must")
    if kind == "literal_error":
        names = [name for name in get_args(field.annotation) if isinstance(name, str)]
        return f"must be {error['ctx']['expected']}{nearest(str(error['input']), names)}"
    if kind == "string_too_long":
        return f"must have at most {error['ctx']['max_length']} characters, not {len(error['input'])}"
    return f"must be {KINDS.get(kind.split('_')[0], error['msg'])}"


def _range(field: FieldInfo) -> str:
    """The bounds of a field: "at least 0 and less than 1"."""
    bounds = ((word, getattr(rule, name, None)) for name, word in BOUNDS.items() for rule in field.metadata)
    return " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
