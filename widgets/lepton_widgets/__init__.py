"""Widgets for Jupyter: `Workbench` (form and all), `Live`, `Shelf`, `Compression`, `Learner`, `Review`."""

from lepton_lab.errors import needs

needs("lepton_widgets", "anywidget", "ipywidgets")

from .compression import Compression
from .learner import Learner
from .live import Live
from .review import Review
from .shelf import Shelf
from .workbench import Workbench

__all__ = ["Compression", "Learner", "Live", "Review", "Shelf", "Workbench"]
