"""Lepton Lab's widgets for Jupyter: `Workbench` (form and all), `Live` (one or several runs), `Shelf` (all runs)."""

from .live import Live
from .shelf import Shelf
from .workbench import Workbench

__all__ = ["Live", "Shelf", "Workbench"]
