"""STRATEGIES: how the work is split over ranks."""

from __future__ import annotations

from .base import Single
from .ddp import DDP
from .pipeline import Pipeline

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
    "pipeline": Pipeline,
}
