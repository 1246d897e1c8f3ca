"""
Artifacts: a model as one file that loads by itself, without the code that made it.

A zip of three members, all of them data: manifest.json, weights.safetensors, and graph.json or graph.onnx.
"""

from __future__ import annotations

from .about import About
from .container import annotate
from .loading import Artifact, load
from .schemes import SCHEMES
from .writing import write

__all__ = ["SCHEMES", "About", "Artifact", "annotate", "load", "write"]
