"""STRATEGIES: how the work is split over ranks."""

from __future__ import annotations

from .base import Single
from .ddp import DDP
from .hogwild import Hogwild
from .parameter_server import ParameterServer

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
    "parameter_server": ParameterServer,
    "hogwild": Hogwild,
}
