"""
Meters: what a model costs and how well it does, and how that was measured.

    lab.measure("model.lepton", data)
    lab.measure(run, peers=True)

All figures of one call come from one process and the same samples, and what is compared takes turns.
"""

from __future__ import annotations

from .figures import TRAINED_ON, Latency, Measured, judged, of_control
from .measuring import measure

__all__ = ["TRAINED_ON", "Latency", "Measured", "judged", "measure", "of_control"]
