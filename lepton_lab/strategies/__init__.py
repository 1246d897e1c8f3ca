"""STRATEGIES: how the work is split over ranks."""

from __future__ import annotations

from .base import Single
from .ddp import DDP
from .fsdp_tensor import FsdpTensor
from .tensor import TensorParallel

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
    "tensor": TensorParallel,
    "fsdp_tensor": FsdpTensor,
}
