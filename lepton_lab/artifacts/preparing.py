"""A model from raw samples to scores: what is done to samples before it becomes a part of it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..spec import LabError, SpecError
from .quiet import quiet

if TYPE_CHECKING:
    from .about import About


class Prepared(nn.Module):
    """
    Raw samples -> what the model was trained on -> its scores in float32.

    As `feeding` does it: uint8 is scaled to (x / 255 - mean) / std by channel, tokens and floats stay as they are.

    Parameters
    ----------
    module
        Copied, to the CPU and in eval mode; a wrapper for several processes is taken off.
    about
        What raw samples are.
    dtype
        What the module computes in.
    """

    def __init__(self, module: nn.Module, about: About, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        module = copy.deepcopy(getattr(module, "module", module) if _wrapped(module) else module)
        self.module = module.to("cpu").to(dtype).eval().requires_grad_(False)
        self.scaled, self.dtype = about.dtype == "uint8", dtype
        self.scale: Any
        self.shift: Any
        if self.scaled and (len(set(about.mean)) > 1 or len(set(about.std)) > 1):
            mean, std = (
                torch.tensor(v, dtype=torch.float64).view(-1, *[1] * (len(about.shape) - 1))
                for v in (about.mean, about.std)
            )
            self.register_buffer("scale", (1 / (255 * std)).float())
            self.register_buffer("shift", (mean / std).float())
        else:
            mean_, std_ = (about.mean[0], about.std[0]) if about.mean else (0.0, 1.0)
            self.scale, self.shift = 1 / (255 * std_), mean_ / std_

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, K), or (B, T, K) of texts."""
        if self.scaled:
            x = x.to(torch.float32) * self.scale
            if not isinstance(self.shift, float) or self.shift:
                x = x - self.shift
        if self.dtype != torch.float32:
            x = x.to(self.dtype) if x.is_floating_point() else x
            return self.module(x).to(torch.float32)
        return self.module(x)


def traced(module: nn.Module, about: About) -> torch.export.ExportedProgram:
    """
    The program that a module runs on a batch of any size, as torch.export sees it.

    Raises
    ------
    LabError
        In one sentence, where the module can't be seen as one, or gives something other than one tensor.
    """
    sample = about.samples(3)
    with torch.no_grad(), quiet():
        try:
            output = module(sample)
        except Exception as error:
            half = getattr(module, "dtype", None) == torch.bfloat16
            what = "in bfloat16" if half else f"samples of shape {about.shape} and dtype {about.dtype}"
            hint = (
                "take another scheme, or make the tensors in its forward of the dtype of what came in"
                if half
                else "give the shape and dtype that it was trained on"
            )
            raise SpecError(f"model={about.model!r}: can't compute {what}: {_first_line(error)}; {hint}") from error
        if not isinstance(output, Tensor):
            raise LabError(
                f"model={about.model!r}: returns a {type(output).__name__}, and an artifact holds one tensor of "
                "scores; wrap it in a module whose forward returns that tensor"
            )
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its kernels for whole layers are in no other runtime
        try:
            return torch.export.export(module, (sample,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except Exception as error:
            raise LabError(
                f"model={about.model!r}: torch.export can't follow its forward for any batch size: "
                f"{_first_line(error)}; take out what depends on the values, or on a fixed batch size, as len(x) does "
                "and x.shape[0] does not"
            ) from error
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def _wrapped(module: nn.Module) -> bool:
    return isinstance(module, nn.parallel.DistributedDataParallel)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160].rstrip('.')}" if lines else type(error).__name__
