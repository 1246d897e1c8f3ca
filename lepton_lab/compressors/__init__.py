"""
COMPRESSORS: what makes a trained model smaller or faster, one after the other in a chain.

Adding one: a class in a file of its own, and a line in the table. What chains, searches and the form must know of it
are attributes and methods of `Compressor`.
"""

from __future__ import annotations

from ..chains import Round, plan
from .base import Compressor, Work
from .distill import Distill
from .lora import Lora
from .low_rank import LowRank
from .masks import Mask
from .prune import Prune
from .quantize import Quantize
from .rehearsal import rehearse
from .share import Share

__all__ = ["COMPRESSORS", "Compressor", "Round", "Work", "plan", "rehearse"]

COMPRESSORS: dict[str, type[Compressor]] = {
    "prune": Prune,
    "mask": Mask,
    "low_rank": LowRank,
    "distill": Distill,
    "lora": Lora,
    "share": Share,
    "quantize": Quantize,
}
