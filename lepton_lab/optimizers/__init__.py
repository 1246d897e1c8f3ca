"""
Optimizers and schedules: OPTIMIZERS maps a name to `(params, spec) -> Optimizer`, SCHEDULES to a factor of lr.

Adding one: a function in `builders` or `schedules`, and a line in its table. What strategies and races must know of an
optimizer, it says with `builders.traits`.
"""

from __future__ import annotations

from .builders import OPTIMIZERS
from .schedules import RANGE_TEST, SCHEDULES, factor

__all__ = ["OPTIMIZERS", "RANGE_TEST", "SCHEDULES", "factor"]
