"""Lepton Lab: train and compress models from a notebook, over processes that outlive it, on plain PyTorch."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Set here, where every process of ours begins: ONNX Runtime reports its use to its maker, and keeps a device's number
# in the home, unless it is told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .artifacts import About, Artifact, export, load
    from .measures import Measured, measure
    from .notebook import parameters
    from .reports import report
    from .run.estimates import Estimate, estimate
    from .run.generation import generate
    from .run.handle import Run, attach, runs
    from .run.launching import compress, launch, repeat
    from .run.overview import table
    from .run.trainer import Trainer
    from .serving import Client, Server, serve
    from .spec import LabError, Spec, SpecError
    from .store.folder import Failure
    from .strategies.base import Single
    from .strategies.group import Group
    from .studies.advice import advise
    from .studies.comparing import Comparison, compare
    from .studies.explanation import explain
    from .studies.races import Race, race
    from .studies.rates import RateTest, find_lr
    from .studies.searching import Search, search
    from .studies.sensitivity import Sensitivity, sensitivity

# Public name -> module. Imported when first asked for: `import lepton_lab` does no work.
_HOMES = {
    "Spec": "spec",
    "LabError": "spec",
    "SpecError": "spec",
    "Failure": "store.folder",
    "Run": "run.handle",
    "parameters": "notebook",
    "launch": "run.launching",
    "compress": "run.launching",
    "repeat": "run.launching",
    "attach": "run.handle",
    "runs": "run.handle",
    "generate": "run.generation",
    "Single": "strategies.base",
    "Group": "strategies.group",
    "Trainer": "run.trainer",
    "Comparison": "studies.comparing",
    "compare": "studies.comparing",
    "Race": "studies.races",
    "race": "studies.races",
    "table": "run.overview",
    "RateTest": "studies.rates",
    "find_lr": "studies.rates",
    "advise": "studies.advice",
    "report": "reports",
    "About": "artifacts",
    "Artifact": "artifacts",
    "export": "artifacts",
    "load": "artifacts",
    "measure": "measures",
    "Measured": "measures",
    "Estimate": "run.estimates",
    "estimate": "run.estimates",
    "explain": "studies.explanation",
    "sensitivity": "studies.sensitivity",
    "Sensitivity": "studies.sensitivity",
    "Search": "studies.searching",
    "search": "studies.searching",
    "Client": "serving",
    "Server": "serving",
    "serve": "serving",
}
__all__ = [
    "About",
    "Artifact",
    "Client",
    "Comparison",
    "Estimate",
    "Failure",
    "Group",
    "LabError",
    "Measured",
    "Race",
    "RateTest",
    "Run",
    "Search",
    "Sensitivity",
    "Server",
    "Single",
    "Spec",
    "SpecError",
    "Trainer",
    "advise",
    "attach",
    "compare",
    "compress",
    "estimate",
    "explain",
    "export",
    "find_lr",
    "generate",
    "launch",
    "load",
    "measure",
    "parameters",
    "race",
    "repeat",
    "report",
    "runs",
    "search",
    "sensitivity",
    "serve",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
