"""What each rank would import, by itself and late: for the process that forks it to have done so."""

from __future__ import annotations

WARM = (
    "cloudpickle",
    "lepton_lab.models.gpt",
    "lepton_lab.models.transformer",
    "lepton_lab.strategies.splitting",
    "lepton_lab.strategies.stages",
    "numpy.random",
    "platformdirs",
    "torch._dynamo",  # an optimizer's first step imports it, which takes seconds
    "torch.distributed.checkpoint",
    "torch.distributed.pipelining",
    "torch.nn.parallel",
    "torch.utils.data",
    "torch.utils.serialization",  # each checkpoint is written with it
)
