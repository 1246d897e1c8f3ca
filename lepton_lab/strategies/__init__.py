"""
STRATEGIES: how the work is split over ranks.

Adding one: a class in a file of its own, and a line in the table. What it can do and take are attributes of `Single`.
"""

from __future__ import annotations

from .base import Single
from .ddp import DDP
from .diloco import DiLoCo
from .fsdp import FSDP
from .fsdp_tensor import FsdpTensor
from .hogwild import Hogwild
from .hybrid import Hybrid
from .local_sgd import LocalSGD
from .parameter_server import ParameterServer
from .pipeline import Pipeline
from .tensor import TensorParallel
from .zero import Zero

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
    "zero": Zero,
    "fsdp": FSDP,
    "hybrid": Hybrid,
    "tensor": TensorParallel,
    "fsdp_tensor": FsdpTensor,
    "pipeline": Pipeline,
    "parameter_server": ParameterServer,
    "hogwild": Hogwild,
    "local_sgd": LocalSGD,
    "diloco": DiLoCo,
}
