"""STRATEGIES: how the work is split over ranks."""

from __future__ import annotations

from .base import Single
from .ddp import DDP
from .diloco import DiLoCo
from .local_sgd import LocalSGD

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
    "local_sgd": LocalSGD,
    "diloco": DiLoCo,
}
