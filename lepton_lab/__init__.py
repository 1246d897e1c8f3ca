"""Lepton Lab: train and compress models from a notebook, over processes that outlive it, on plain PyTorch."""

import os

import lazy_loader

# Set here, where every process of ours begins: ONNX Runtime reports its use to its maker, and keeps a device's number
# in the home, unless it is told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The public names stand in __init__.pyi. Each is imported when first asked for: `import lepton_lab` does no work.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
