"""What to do: `Spec`, one frozen flat record that form, Python, papermill, YAML and script share."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# The tables stand above this module, and Spec must check names against them: they are found by name when first
# needed, so that nothing here imports upwards.
TABLES = {
    "dataset": "datasets.DATASETS",
    "model": "models.MODELS",
    "optimizer": "optimizers.OPTIMIZERS",
    "schedule": "optimizers.SCHEDULES",
    "strategy": "strategies.STRATEGIES",
}
CELL = "cell:"  # prefix of the name of a model or data set that a user defined, e.g. "cell:MyNet"

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


class LabError(Exception):
    """Something a user can put right; its message is one sentence that says how."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: the sentence is the whole story, our frames would only bury it.
        return [f"{type(self).__name__}: {self}"]


class SpecError(LabError, ValueError):
    """A value was refused before anything started."""


class Spec(BaseModel):
    """
    What to train, how, and on how many processes.

    Frozen: a variant is `spec.replace(lr=3e-4)`. Widget state, keyword arguments, papermill parameters and
    YAML all go through the same checks, so text such as ``"1e-3"`` is taken as a number.

    Raises
    ------
    SpecError
        One sentence for each refused field: its name, the value, what is allowed and the nearest right name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    dataset: str = "digits"
    """Data set, a name of DATASETS."""
    model: str = "cnn"
    """Model, a name of MODELS."""
    optimizer: str = "adam"
    """Optimizer, a name of OPTIMIZERS."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate, above 0; the peak that the schedule scales."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay (L2; decoupled in adamw and muon), 0 or more."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of momentum, nesterov and muon, from 0 to below 1."""
    schedule: str = "constant"
    """Learning-rate schedule, a name of SCHEDULES."""
    warmup: int = Field(0, ge=0)
    """Linear warm-up, optimizer steps, 0 or more."""
    epochs: int = Field(5, ge=1)
    """Passes over the training data, 1 or more."""
    batch_size: int = Field(64, ge=1)
    """Samples per optimizer step over all ranks, at least world x accumulate."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches that each step's batch is split into to save memory, 1 or more."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of the whole gradient, 0 or more; 0 clips nothing."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass: fp32, bf16 or fp16 (autocast; the weights stay fp32)."""
    compile: bool = False
    """Compile the model with torch.compile: slower start, faster steps."""
    strategy: str = "ddp"
    """How the work is split over ranks, a name of STRATEGIES."""
    world: int = Field(1, ge=1)
    """Number of ranks (training processes), 1 or more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ranks compute: cpu, cuda, or auto (cuda where this machine has enough of it)."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of split, initial weights, order of samples and dropout, from 0 to 2**31 - 1."""
    eval_every: int = Field(1, ge=0)
    """Epochs between evaluations on the validation set, 0 or more; 0 evaluates only at the end."""
    checkpoint_every: int = Field(1, ge=0)
    """Epochs between checkpoints, 0 or more; 0 saves only at the end and on a stop."""
    timeout: float = Field(300.0, gt=0)
    """Seconds that a rank waits for another before the run fails, above 0."""
    name: str = Field("", max_length=80)
    """A name of your own for the run, at most 80 characters."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Keyword arguments of the chosen data set, model, schedule or strategy, by name, e.g. {"dropout": 0.2}."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = {e["loc"][:1]: e for e in reversed(error.errors())}  # one sentence a field
            raise SpecError("\n".join(_sentence(e) for e in reversed(first.values()))) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise SpecError(f"a Spec is frozen: make another with spec.replace({name}={value!r})")

    @model_validator(mode="after")
    def _check(self) -> Spec:
        for field in TABLES:
            name = getattr(self, field)
            if not (field in ("dataset", "model") and name.startswith(CELL)):
                pick(table(field), name, field)
        self._check_options()
        if why := table("strategy")[self.strategy].refuse(self):
            raise SpecError(why)
        if self.optimizer == "nesterov" and not self.momentum:
            raise SpecError("momentum=0.0: optimizer='nesterov' needs momentum above 0; take 0.9, or optimizer='sgd'")
        if self.batch_size < self.world * self.accumulate:
            raise SpecError(
                f"batch_size={self.batch_size}: must be at least {self.world * self.accumulate}, a sample for each of "
                f"world={self.world} ranks x accumulate={self.accumulate} micro-batches"
            )
        return self

    def _check_options(self) -> None:
        if not self.options:
            return
        known = self.known_options()
        for name, value in list(self.options.items()):
            if name in known:
                self.options[name] = _as_type_of(known[name], name, value)
            else:
                raise SpecError(
                    f"options={{{name!r}: {value!r}}}: "
                    + unknown(
                        "option", name, known, f"of {self.dataset}, {self.model}, {self.schedule}, {self.strategy}"
                    )
                )

    def known_options(self) -> dict[str, Any]:
        """Option names of the chosen table entries with their defaults."""
        known: dict[str, Any] = {}
        for field in TABLES:
            name = getattr(self, field)
            if not name.startswith(CELL):
                known |= keywords(table(field)[name])
        return known

    def options_of(self, entry: Callable[..., Any]) -> dict[str, Any]:
        """The part of `options` that a table's entry takes."""
        return {k: v for k, v in self.options.items() if k in keywords(entry)}

    def replace(self, **changes: Any) -> Spec:
        """The same spec with some fields changed, checked again."""
        return Spec(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values; `Spec(**spec.to_dict()) == spec`."""
        return self.model_dump()

    def to_yaml(self) -> str:
        """All fields as YAML; `Spec.load(spec.to_yaml()) == spec`."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_script(self) -> str:
        """A Python script that repeats the run without Jupyter; it exits with 0 if the run ends as done."""
        for field in ("dataset", "model"):
            if getattr(self, field).startswith(CELL):
                raise SpecError(
                    f"{field}={getattr(self, field)!r} was defined in a notebook, so a script can't name it: repeat "
                    "the run with `lepton-lab run --like RUN_ID`, which takes the code from the run's folder"
                )
        arguments = "".join(f"    {name}={value!r},\n" for name, value in self.to_dict().items())
        return (
            '"""Repeats a Lepton Lab run: python this_file.py"""\n\nimport lepton_lab as lab\n\n'
            f"spec = lab.Spec(\n{arguments})\n\n"
            'if __name__ == "__main__":\n'
            "    run = lab.launch(spec)\n"
            "    state = run.wait()\n"
            "    print(run.id, state, run.folder)\n"
            '    raise SystemExit(state != "done")\n'
        )

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | os.PathLike[str]) -> Spec:
        """
        A spec from a mapping, YAML text, or the path of a YAML or JSON file.

        Raises
        ------
        SpecError
            If the file can't be read, is not a mapping, or a field is refused.
        """
        if isinstance(source, Mapping):
            return cls(**source)
        import yaml

        text = str(source)
        if isinstance(source, os.PathLike) or text.endswith((".yaml", ".yml", ".json")):
            try:
                text = Path(source).read_text()
            except OSError as error:
                raise SpecError(f"spec file {str(source)!r} can't be read: {error.strerror}") from None
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(f"the spec is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise SpecError(f"the spec must be lines of `field: value`, not {text.strip()[:60]!r}")
        return cls(**{str(name): value for name, value in values.items()})


def table(field: str) -> dict[str, Any]:
    """The table of a family by its Spec field: `table("model")` is MODELS."""
    module, name = TABLES[field].split(".")
    return getattr(importlib.import_module(f".{module}", __package__), name)


def pick(table: Mapping[str, Any], name: str, field: str) -> Any:
    """
    The entry of a table; an unknown name lists the known ones and the nearest.

    Raises
    ------
    SpecError
        If `name` is not in the table.
    """
    if name not in table:
        raise SpecError(f"{field}={name!r}: {unknown(field, name, table)}")
    return table[name]


def unknown(kind: str, name: str, known: Mapping[str, Any], where: str = "") -> str:
    """One sentence on an unknown name: the nearest one and all that are known."""
    near = SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name.lower(), known, 1, 0.5)), None)
    hint = f"; did you mean {near!r}?" if near in known else ""
    names = ", ".join(known) or "none"
    return f"unknown {kind}{hint} (known{' ' + where if where else ''}: {names})"


def keywords(entry: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only arguments of a table's entry with their defaults: its options."""
    parameters = inspect.signature(entry).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    kind = type(default)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    try:
        if kind in (int, float) and not isinstance(value, bool):
            number = kind(value)
            if number == float(value):
                return number
    except ValueError:
        pass
    raise SpecError(f"options={{{name!r}: {value!r}}}: must be of type {kind.__name__}, like its default {default!r}")


def _sentence(error: Any) -> str:
    """One pydantic error as a sentence of ours."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    field = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{field}={error['input']!r}: {unknown('field', field, Spec.model_fields)}"
    if error["type"] == "string_type" and field in TABLES:
        return f"{field}={error['input']!r}: must be a name (known: {', '.join(table(field))})"
    must = error["msg"].replace("Input should be", "must be").replace("Input should have", "must have")
    return f"{field}={error['input']!r}: {must} ({(Spec.model_fields[field].description or '').rstrip('.')})"
