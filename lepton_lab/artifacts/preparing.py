"""A model from raw samples to scores: what is done to samples before it becomes a part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..batches import leaves
from ..compressors.layers import copied, parametrized, unparametrized
from ..datasets import scaling
from ..errors import LabError, SpecError
from ..switches import no_fastpath, quiet
from .outputs import asking, named
from .outputs import shapes as shapes_of

if TYPE_CHECKING:
    from .about import About

HELD = 3  # made-up samples that every file is held to its module on
CLOSE = 1e-2  # of the largest score: farther off is no rounding of 32-bit floats
LEAST = 1e-3  # what the largest score counts as at least: of smaller ones, the rounding within the model is no part


class Prepared(nn.Module):
    """
    Raw samples -> what the model was trained on -> its scores in float32.

    As training does it (`engine.feed`): uint8 is scaled to (x / 255 - mean) / std by channel, standardised floats to
    (x - mean) / std; tokens and other floats stay as they are. A model of other numbers than float32 gets samples in
    its own, where it takes no others.

    The module is copied, to the CPU and in eval mode, without a wrapper for several processes. Its real numbers become
    `dtype`, torch.float32 or torch.bfloat16, with parametrized weights computed once; None leaves all of it as the user
    has it: what a file is held to. Complex numbers stay complex in any case.
    """

    def __init__(self, module: nn.Module, about: About, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if isinstance(module, nn.parallel.DistributedDataParallel):
            module = module.module
        module = copied(module).to("cpu").eval()
        if dtype is not None:
            module = unparametrized(module)
            module = module.bfloat16() if dtype == torch.bfloat16 else module.float()  # `.to` drops imaginary parts
        module.requires_grad_(False)
        self.module = module
        self.scaled, self.dtype = about.scaled, dtype
        self.signature, self.output = about.signature, about.outputs
        self.names: tuple[str, ...] = ()  # of its outputs, once `scores` has asked, where they have any
        self.scale: Any
        self.shift: Any
        scales = scaling(about.mean, about.std, len(about.shape), about.unit)
        for name, value in zip(("scale", "shift"), scales, strict=True):
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.takes = torch.float32
        if any(item.dtype != "int64" for item in self.signature.inputs):
            self.takes = self._takes(about)

    def _takes(self, about: About) -> torch.dtype:
        """What the module takes: float32, or where it does not, the other numbers that it is made of."""
        own = numbers(self.module) - {torch.float32}
        if len(own) != 1:
            return torch.float32
        try:
            with torch.no_grad():
                self(*self.signature.flat(about.samples(1)))
        except Exception:  # of the user's code; if the cause is another, it is said when the scores are asked for
            return own.pop()
        return torch.float32

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, *shape) of each input -> (B, K), or (B, T, K) of texts; or several such."""
        outputs = self.outputs(*inputs)
        return tuple(outputs.values()) if isinstance(outputs, dict) else outputs

    def outputs(self, *inputs: Tensor) -> Any:
        """What it gives, see `outputs.named`; of one sample alone where these are asked for one at a time."""
        if self.scaled:
            x = inputs[0].to(torch.float32) * self.scale
            if not isinstance(self.shift, float) or self.shift:
                x = x - self.shift
            inputs = (x,)
        if self.takes != torch.float32:
            inputs = tuple(x.to(self.takes) if x.is_floating_point() else x for x in inputs)
        outputs = chosen(self.signature.ask(self.module, inputs), self.output)
        if self.signature.apart and isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            outputs = outputs[0]
        outputs = named(outputs)
        several = isinstance(outputs, dict)
        return {name: _kept(value, True) for name, value in outputs.items()} if several else _kept(outputs, False)

    def answer(self, batch: Any) -> Any:
        """What it gives of a batch of arrays, as arrays; once `scores` has asked for its names."""

        def run(arrays: list[Any]) -> list[Any]:
            return arrays_of(self(*map(torch.from_numpy, arrays)))

        with torch.no_grad():
            return asking(run, self.signature, self.names)(batch)


def arrays_of(outputs: Tensor | Sequence[Tensor]) -> list[Any]:
    """One output or several as arrays."""
    return [part.numpy() for part in ([outputs] if isinstance(outputs, Tensor) else outputs)]


def _kept(output: Any, whole: bool) -> Any:
    """An output in the numbers that a file gives: float32; or of several, whole numbers as they are."""
    if not isinstance(output, Tensor) or output.is_complex():
        return output
    if not whole or output.is_floating_point():
        return output.to(torch.float32)
    return output if output.dtype == torch.bool else output.to(torch.int64)


def chosen(outputs: Any, name: str) -> Any:
    """One of a model's outputs by its name; what they are where there is none of that name."""
    if isinstance(outputs, Mapping):
        return outputs.get(name, outputs)
    return getattr(outputs, name, outputs) if name else outputs


def numbers(module: nn.Module) -> set[torch.dtype]:
    """The kinds of floating-point numbers in a module's parameters and buffers."""
    return {t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}


def scores(module: Prepared, about: About, longer: int = 0) -> Any:
    """
    Scores of made-up samples, HELD of them, whose open sizes are `longer` than usual.

    Raises SpecError where the module can't take them, LabError where it gives what is no tensor of real numbers.
    """
    batch = about.signature.made_up(HELD, longer)
    with torch.no_grad(), quiet():
        try:
            given = module.signature.flat(batch)
            several = module.outputs(*(torch.from_numpy(a[:1] if module.signature.apart else a) for a in given))
            _check(several, about)
            module.names = tuple(several) if isinstance(several, dict) else ()
            return module.answer(batch)
        except LabError:
            raise
        except Exception as error:
            what, hint = f"samples of {shapes(about)}", "give the shape and dtype that it was trained on"
            if about.call in ("keywords", "list"):
                hint = "let its forward do with these inputs alone, without labels"
            if module.dtype == torch.bfloat16:
                what = "in bfloat16"
                hint = "take another scheme, or make the tensors in its forward of the dtype of what came in"
            raise SpecError(f"model={about.model!r}: can't compute {what}: {_first_line(error)}; {hint}") from error


def _check(outputs: Any, about: About) -> None:
    """Refuse outputs that no file can hold."""
    values = [*outputs.values()] if isinstance(outputs, dict) else [outputs]
    wrong = next((value for value in values if not isinstance(value, Tensor) or value.is_complex()), None)
    if wrong is None and values:
        return
    kind = "complex numbers" if isinstance(wrong, Tensor) else f"a {type(wrong).__name__}"
    if isinstance(outputs, dict):
        kind = f"several outputs, of which one is {kind}" if values else "an empty dict"
    raise LabError(
        f"model={about.model!r}: returns {kind}, and an artifact holds tensors of scores, which are real; wrap it in a "
        "module whose forward returns that tensor, or a dict of such"
    )


def shapes(about: About) -> str:
    """Shape and dtype of what goes in, in words."""
    if about.call == "tensor":
        return f"shape {about.shape} and dtype {about.dtype}"
    return ", ".join(f"{item.name} {item.shape} {item.dtype}" for item in about.signature.inputs)


def floats(own: Prepared, about: About) -> Prepared:
    """
    A module as fp32 holds it: in 32-bit floats, or as the user has it where those would compute something else.

    Raises what `scores` raises of it.
    """
    expected = scores(own, about)
    if numbers(own.module) <= {torch.float32} and not parametrized(own.module):
        return own
    plain = Prepared(own.module, about, torch.float32)
    try:
        return plain if not far(scores(plain, about), expected, rounding(own.module)) else own
    except LabError:  # its code asks for its own kind of numbers
        return own


def rounding(module: nn.Module) -> float:
    """How far scores may be off, as a part of the largest, for the rounding of the coarsest numbers in a module."""
    coarsest = max((torch.finfo(dtype).eps for dtype in numbers(module)), default=0.0)
    return max(CLOSE, 32 * coarsest)


def far(got: Any, expected: Any, close: float) -> str:
    """In words, how far scores are from those expected; "" where it is by no more than `close` of the largest."""
    if shapes_of(got) != shapes_of(expected):
        return f"scores of shape {_listed(got)}, not {_listed(expected)}"
    for ours, theirs in zip(leaves(got), leaves(expected), strict=True):
        most, off = (float(abs(a).max(initial=0)) for a in (theirs.astype("float64"), ours.astype("float64") - theirs))
        if not off <= close * max(LEAST, most):
            return f"off by {off:.2g} of scores up to {most:.2g}"
    return ""


def _listed(scores: Any) -> str:
    return " and ".join(map(str, shapes_of(scores)))


def hold(run: Callable[[Any], Any], own: Prepared, about: About, what: str, dtype: torch.dtype | None = None) -> None:
    """
    Refuse scores of made-up samples that are not the module's own, to rounding: LabError says how far off they are.

    `run` gives the scores of HELD samples of what `what` names for a batch of arrays, `own` is the module as the user
    has it, or as `floats` found it to be the same, and `dtype` the numbers that were computed with, where they are
    coarser than the module's. Open sizes are tried twice.
    """
    close = max(rounding(own.module), 32 * torch.finfo(dtype).eps if dtype else 0.0)
    for longer in (0, 3) if about.signature.open else (0,):
        expected = scores(own, about, longer)
        got = run(about.signature.made_up(HELD, longer))
        if distance := far(got, expected, close):
            hint = "take another scheme, runtime or format"
            if shapes_of(got) == shapes_of(expected) and far(scores(own, about, longer), expected, close):
                hint = "its forward draws random numbers in eval mode; give dropout training=self.training"
            raise LabError(f"model={about.model!r}: {what} computes something else, {distance}; {hint}")


def traced(module: Prepared, about: About) -> torch.export.ExportedProgram:
    """
    The program that a module runs on a batch of any size, or on one sample alone, as torch.export sees it.

    Raises what `scores` does, and LabError where the module can't be seen as one program.
    """
    scores(module, about)
    batch, signature = torch.export.Dim("batch"), module.signature
    first: dict[int, Any] = {} if signature.apart else {0: batch}
    sizes = [
        first | {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(item.shape, 1) if size is None}
        for item in signature.inputs
    ]
    with torch.no_grad(), quiet(), no_fastpath():
        try:
            given = tuple(signature.flat(about.samples(1 if signature.apart else HELD)))
            return torch.export.export(module, given, dynamic_shapes=(tuple(sizes),))
        except Exception as error:
            raise LabError(
                f"model={about.model!r}: torch.export can't follow its forward for any batch size: "
                f"{_first_line(error)}; take out what depends on the values, or on a fixed batch size, as len(x) does "
                "and x.shape[0] does not"
            ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160].rstrip('.')}" if lines else type(error).__name__
