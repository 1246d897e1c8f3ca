"""Optimizers and schedules: OPTIMIZERS maps a name to `(params, spec) -> Optimizer`, SCHEDULES to a factor of lr."""

from __future__ import annotations

from .builders import OPTIMIZERS
from .schedules import RANGE_TEST, SCHEDULES, factor

__all__ = ["OPTIMIZERS", "RANGE_TEST", "SCHEDULES", "factor"]
