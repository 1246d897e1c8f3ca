"""Lepton Lab's widgets for Jupyter: `Workbench` (form and all), `Live`, `Shelf` (all runs), `Compression`."""

from .compression import Compression
from .live import Live
from .shelf import Shelf
from .workbench import Workbench

__all__ = ["Compression", "Live", "Shelf", "Workbench"]
