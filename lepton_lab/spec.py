"""What to do: `Spec`, one frozen flat record that form, Python, papermill, YAML and script share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from . import chains, preparation, watched, written
from .errors import SpecError, fitted, must, shown, unknown, visible
from .links import LISTS, canonical
from .tables import TABLES, entries, entry_options, keywords, listed, pick, table, trait
from .values import FrozenDict, FrozenList, frozen

CELL = "cell:"  # prefix of the name of what a user defined, e.g. "cell:MyNet"
OWN = {"model": "model", "data": "dataset", "strategy": "strategy", "task": "task"}
"""What `launch` takes of a user's own, and the field that then names it."""


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
    """Data set, a name of DATASETS, or KIND:PATH for your own, such as images:photos/ (kinds: names of OPENERS)."""
    model: str = "cnn"
    """Model, a name of MODELS."""
    task: str = "auto"
    """What a batch means, a name of TASKS."""
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
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Arithmetic of the forward pass: fp32, bf16, fp16 (autocast; the weights stay fp32), or auto (bf16 if faster)."""
    compile: bool = False
    """Compile the model with torch.compile: slower start, faster steps."""
    strategy: str = "ddp"
    """How the work is split over ranks, a name of STRATEGIES."""
    world: int = Field(1, ge=1, validate_default=True)
    """Number of ranks (training processes), 1 or more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ranks compute: cpu, cuda, or auto (cuda where this machine has enough of it)."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of split, initial weights, order of samples and dropout, from 0 to 2**31 - 1."""
    eval_every: int = Field(1, ge=0)
    """Epochs between evaluations on the validation set, 0 or more; 0 evaluates only at the end."""
    checkpoint_every: int = Field(1, ge=0)
    """Epochs between checkpoints, 0 or more; 0 saves only at the end and on a stop."""
    keep_best: str = ""
    """Figure whose best evaluation is kept as a checkpoint, such as val_accuracy; "" keeps none beside the last."""
    stop_early: Annotated[dict[str, Any], AfterValidator(frozen)] = FrozenDict()
    """End when a figure improves no more, e.g. {"metric": "val_loss", "patience": 3, "min_delta": 0}; {} never."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay by step of a moving average of the weights, kept beside them, from 0 to below 1; 0 keeps none."""
    workers: int = Field(-1, ge=-1, le=64)
    """Processes that read a Dataset ahead for each rank; -1 chooses, 0 reads in the rank; a stream takes one."""
    prefetch: int = Field(0, ge=0, le=10_000)
    """Batches that each of them is ahead, at most 10,000; 0 chooses by their size and the time that they take."""
    timeout: float = Field(300.0, gt=0)
    """Seconds that a rank waits for another, or for a process that loads its data, before the run fails; above 0."""
    name: str = Field("", max_length=80)
    """A name of your own for the run, at most 80 characters."""
    metrics: Annotated[list[str], AfterValidator(frozen)] = FrozenList()
    """Metrics to count beside the usual ones, names of METRICS, e.g. ["f1", "roc_auc"]."""
    transforms: Annotated[list[dict[str, dict[str, Any]]], AfterValidator(frozen)] = FrozenList()
    """What is done to the data, in order, names of TRANSFORMS, e.g. ["standardise", {"crop": {"padding": 4}}]."""
    options: dict[str, bool | int | float | str] = Field(default_factory=FrozenDict)
    """Keyword arguments of the chosen data set, model, task, schedule, strategy or metrics: {"dropout": 0.2}."""
    parent: str = ""
    """Id or name of the run whose model is compressed; "" trains a fresh one."""
    checkpoint: Literal["last", "best", "ema"] = "last"
    """Which model of the parent is compressed: last, best (by its keep_best) or ema (its averaged weights)."""
    compress: Annotated[list[dict[str, dict[str, Any]]], AfterValidator(frozen)] = FrozenList()
    """Compressors of the parent's model, in order, e.g. [{"prune": {"ratio": 0.5}}, {"quantize": {}}]."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = {e["loc"][:2]: e for e in reversed(error.errors())}  # one sentence a field, or option
            raise SpecError("\n".join(_sentence(e) for e in reversed(first.values()))) from None

    def __hash__(self) -> int:
        return hash(tuple(map(frozen, self.__dict__.values())))

    def __setattr__(self, name: str, value: Any) -> None:
        raise SpecError(f"a Spec is frozen: make another with spec.replace({name}={value!r})")

    @field_validator("*", mode="before")
    @classmethod
    def _counted(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind in (int, float) and type(value).__name__ in ("bool", "bool_"):  # numpy's too: pydantic takes it for 1
            raise PydanticCustomError(f"{kind.__name__}_type", "must be a number")
        return value

    @field_validator(*TABLES)
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        field = str(info.field_name)
        if not (field in OWN.values() and name.startswith(CELL)):
            pick(table(field), name, field)
        return name

    @field_validator("momentum")
    @classmethod
    def _moves(cls, momentum: float, info: ValidationInfo) -> float:
        name = info.data.get("optimizer", "")
        if trait("optimizer", name, "needs_momentum") and not momentum:
            raise SpecError(f"momentum=0.0: optimizer={name!r} needs momentum above 0; take 0.9, or optimizer='sgd'")
        return momentum

    @field_validator("world")
    @classmethod
    def _shares(cls, world: int, info: ValidationInfo) -> int:
        """Whether the fields above leave work for every rank; those that were refused are not in `info.data`."""
        size, accumulate = info.data.get("batch_size"), info.data.get("accumulate")
        if size and accumulate and size < world * accumulate:
            raise SpecError(
                f"batch_size={size}: must be at least {world * accumulate}, a sample for each of "
                f"world={world} ranks x accumulate={accumulate} micro-batches"
            )
        return world

    @field_validator("name")
    @classmethod
    def _visible(cls, name: str) -> str:
        return visible("name", name)

    @field_validator("metrics", mode="before")
    @classmethod
    def _named(cls, names: Any) -> Any:
        return listed("metric", names)

    @field_validator("options")
    @classmethod
    def _taken(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Options as their entries take them; what only a refused entry could know is passed over."""
        chosen = entries(info.data)
        rules = {
            option: (rule, f"{field}={name!r}")
            for field, name in chosen
            for option, rule in entry_options(field, name).items()
        }
        known = {*TABLES, "metrics"} <= info.data.keys()
        sure = {option: value for option, value in options.items() if option in rules or known}
        return frozen(options | fitted(sure, rules, _pair, f"of {', '.join(name for _, name in chosen)}"))

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _linked(cls, items: Any, info: ValidationInfo) -> list[dict[str, dict[str, Any]]]:
        return canonical(items or [], LISTS[str(info.field_name)])

    @field_validator("stop_early", mode="before")
    @classmethod
    def _stops(cls, record: Any) -> dict[str, Any]:
        return watched.canonical(record)

    @model_validator(mode="after")
    def _splits(self) -> Spec:
        # The default model may stand for one that `launch` is given, and `launch` checks again. This must not ask
        # whether it was named: a spec that was written out and read back names every field.
        usual = self.model == Spec.model_fields["model"].default
        (self.model_copy(update={"model": CELL}) if usual else self).check_strategy()
        if why := chains.refuse(self) or watched.refuse(self) or preparation.ordered(self.transforms):
            raise SpecError(why)
        return self

    def check_strategy(self) -> None:
        """Refuse what the strategy can't do with this model, world and options: a SpecError says what would fit."""
        if "strategy" not in self.own and (why := table("strategy")[self.strategy].refuse(self)):
            raise SpecError(why)

    @property
    def own(self) -> list[str]:
        """Fields that name something of the user's own, which no table knows."""
        return [field for field in OWN.values() if getattr(self, field).startswith(CELL)]

    def known_options(self) -> dict[str, Any]:
        """Option names of the chosen table entries, with the values that hold: those given, else the defaults."""
        chosen = (entry_options(family, name) for family, name in entries(vars(self)))
        return {option: rule.default for entry in chosen for option, rule in entry.items()} | self.options

    def options_after(self, **names: str) -> dict[str, Any]:
        """The options, less those of an entry that is left for one which does not take them: `strategy="ddp"`."""
        left = {option for field in names for option in entry_options(field, getattr(self, field))}
        left -= {option for field, name in names.items() for option in entry_options(field, name)}
        return {option: value for option, value in self.options.items() if option not in left}

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
        return written.as_yaml(self.to_dict())

    def to_script(self) -> str:
        """A script that repeats the run and exits with 0 if it is done; SpecError where code is from a notebook."""
        for field in self.own:
            raise SpecError(
                f"{field}={getattr(self, field)!r} was defined in a notebook, so a script can't name it: repeat "
                "the run with `lepton-lab run --like RUN_ID`, which takes the code from the run's folder"
            )
        return written.script(self.to_dict())

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | os.PathLike[str]) -> Spec:
        """
        A spec from a mapping, YAML text, or the path of a YAML or JSON file; a line with `: ` in it is YAML.

        Raises
        ------
        SpecError
            If the file can't be read, is not a mapping, or a field is refused.
        """
        if isinstance(source, Mapping):
            return cls(**source)
        return cls(**written.read(source))


def full_batch(spec: Spec) -> bool:
    """Whether each optimizer step takes all training samples."""
    return bool(trait("optimizer", spec.optimizer, "full_batch"))


def step_samples(spec: Spec, n: int) -> int:
    """Samples of one optimizer step over all ranks, of `n` that there are."""
    return n if full_batch(spec) else min(spec.batch_size, n)


def micro_samples(spec: Spec, step: int) -> int:
    """Samples of each micro-batch, over all ranks, of a step of so many; the last may have fewer."""
    return spec.batch_size if full_batch(spec) else -(-step // spec.accumulate)


def _pair(option: str, value: Any) -> str:
    return f"options={{{option!r}: {shown(value)}}}"


def _sentence(error: Any) -> str:
    """One pydantic error as a sentence of ours."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    field, *within = error["loc"]
    value = shown(error["input"])
    if error["type"] == "extra_forbidden":
        return f"{field}={value}: {unknown('field', str(field), Spec.model_fields)}"
    if within:
        return f"{_pair(within[0], error['input'])}: must be true or false, a finite number, or text"
    if error["type"] == "string_type" and field in TABLES:
        return f"{field}={value}: must be a name (known: {', '.join(table(field))})"
    described = Spec.model_fields[field]
    return f"{field}={value}: {must(error, described)} ({(described.description or '').rstrip('.')})"
