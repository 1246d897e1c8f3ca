"""What an artifact says of itself beyond its numbers: what goes in, what comes out, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .inputs import CALLS, SAMPLES, Input, Signature, parts

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import Data
    from ..spec import Spec
    from ..tasks import Task

DTYPES = ("uint8", "float32", "int64")


@dataclass(frozen=True)
class About:
    """
    What is known of a model when an artifact of it is written.

    Attributes
    ----------
    model : str
        Its name.
    shape : tuple of int
        Shape of one raw sample, without the batch.
    dtype : str
        What raw samples hold: "uint8" (scaled before the model sees them), "float32" (given to it as they are) or
        "int64" (tokens).
    labels : list of str
        Name of each output; empty for a regression.
    vocabulary : int
        Kinds of tokens; 0 where samples are numbers.
    tokens : str
        What a token is: "bytes", "characters" or "".
    mean, std : tuple of float
        Per channel, of x / unit; () = uint8 is only divided by 255, and floats stay as they are.
    unit : int
        255 where mean and std are of pixels in uint8, 1 where they are of floats.
    chain : list of dict
        Links that made it, in order, each {name: options}.
    parent : str
        Id of the run whose model was compressed.
    measured : dict
        Figures measured so far, such as `Measured.to_dict()`.
    inputs : tuple of Input
        What the model is called with, where that is more than one tensor or of unequal length; () is `shape` and
        `dtype`.
    call : str
        How: one of `inputs.CALLS`.
    outputs : str
        Which of a model's outputs is the file's, where it gives several by name, such as "logits".
    task : dict
        Name and options of what it was trained for.
    answer : dict
        What answers in the task's terms are read by, see `Task.reading`.
    """

    model: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    labels: list[str] = field(default_factory=list)
    vocabulary: int = 0
    tokens: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: int = 255
    chain: list[dict[str, Any]] = field(default_factory=list)
    parent: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    call: str = CALLS[0]
    outputs: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.inputs:
            return
        if self.dtype not in DTYPES:
            raise SpecError(f"dtype={self.dtype!r}: must be {', '.join(map(repr, DTYPES[:-1]))} or {DTYPES[-1]!r}")
        if self.dtype == "int64" and self.vocabulary < 1:
            raise SpecError(f"vocabulary={self.vocabulary}: must be at least 1 where samples are tokens (int64)")

    @property
    def scaled(self) -> bool:
        """Whether the file itself scales raw samples: pixels in uint8, and floats that were standardised."""
        pixels, floats = self.dtype == "uint8", self.dtype == "float32" and self.unit == 1 and self.mean != ()
        return self.call == CALLS[0] and (pixels or floats)

    @property
    def signature(self) -> Signature:
        """What the model is called with, and how."""
        return Signature(self.inputs or (Input(SAMPLES, self.shape, self.dtype, self.vocabulary),), self.call)

    @classmethod
    def of_task(cls, task: Task, spec: Spec, module: nn.Module, **more: Any) -> About:
        """As `of`, of a module that was trained for a task; LabError where it is called with what no file can hold."""
        from ..tasks import kind
        from .asking import asked

        fields = asked(task, task.data, module)  # first, since by it the task knows the model
        fields = {"labels": task.labels(module), "outputs": task.output, **fields}
        fields["task"] = {"name": kind(task), "options": dict(spec.options_of(type(task)))}
        fields["answer"] = task.reading(module)
        if task.writes and len(fields.get("inputs", ())) == 2:
            source, before = fields["inputs"]
            fields["inputs"] = source, replace(before, begins=fields["answer"]["start"])
        if not fields.get("inputs"):
            return cls.of(task.data, spec, **{**fields, **more})
        first = fields["inputs"][0]
        facts: dict[str, Any] = {
            "shape": first.sizes,
            "dtype": first.dtype,
            "vocabulary": first.vocabulary,
            "tokens": task.data.tokens,
        }
        facts |= {"mean": tuple(task.data.mean), "std": tuple(task.data.std), "unit": task.data.unit}
        return cls(**{"model": spec.model, **facts, **fields, **more})

    @classmethod
    def of(cls, data: Data, spec: Spec | str, **more: Any) -> About:
        """
        What data and a spec (or a model's name) tell; `more` are fields such as `chain`, `parent` and `measured`.

        Raw samples are what the data set holds: pixels stay uint8, and the artifact scales them.
        """
        import torch

        from ..datasets import rows

        pixels = rows(data.train, [0])[0].dtype == torch.uint8
        more = {"labels": list(data.classes), **more}
        facts: dict[str, Any] = {
            "model": spec if isinstance(spec, str) else spec.model,
            "shape": data.shape,
            "dtype": "int64" if data.vocabulary else "uint8" if pixels else "float32",
            "vocabulary": data.vocabulary,
            "tokens": data.tokens,
            "mean": tuple(data.mean),
            "std": tuple(data.std),
            "unit": data.unit,
        }
        return cls(**{**facts, **more})

    def samples(self, count: int, longer: int = 0) -> Any:
        """Raw samples (count, *shape), made up (see `inputs.made_up`): a tensor, or a dict of them by name."""
        import torch

        return parts(self.signature.made_up(count, longer), torch.from_numpy)
