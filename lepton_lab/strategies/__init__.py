"""STRATEGIES: how the work is split over ranks."""

from __future__ import annotations

from .base import Single
from .ddp import DDP
<<<<<<< HEAD
from .diloco import DiLoCo
from .fsdp import FSDP
from .hybrid import Hybrid
from .local_sgd import LocalSGD
from .zero import Zero
=======
from .fsdp_tensor import FsdpTensor
from .tensor import TensorParallel
>>>>>>> S2

STRATEGIES: dict[str, type[Single]] = {
    "single": Single,
    "ddp": DDP,
<<<<<<< HEAD
    "zero": Zero,
    "fsdp": FSDP,
    "hybrid": Hybrid,
    "local_sgd": LocalSGD,
    "diloco": DiLoCo,
=======
    "tensor": TensorParallel,
    "fsdp_tensor": FsdpTensor,
>>>>>>> S2
}
