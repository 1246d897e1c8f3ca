"""Models that others trained, as a folder of files: `lab.weights`."""

from __future__ import annotations

from pathlib import Path

from ..files import data_root
from ..tables import pick
from .files import fetch
from .pretrained import WEIGHTS


def weights(name: str) -> Path:
    """
    The folder of a model that was trained before, downloaded at the first call.

    Parameters
    ----------
    name
        "minilm": MiniLM-L6-v2, `transformers.AutoModel.from_pretrained(folder)`.
        "smollm2": SmolLM2-135M-Instruct in 4 bits, `transformers.AutoModelForCausalLM.from_pretrained(folder,
        gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")`, with the extra `nlp`.
        "efficientnet_lite0": of ImageNet, `torch.load(folder / "efficientnet-lite0-57934424.pth", weights_only=True)`.

    Returns
    -------
    Path
        A folder under LEPTON_LAB_DATA. The model itself is not loaded.

    Raises
    ------
    SpecError
        If the name is unknown, or a file is missing and can't be had; it says how to get it by hand.
    """
    source, root = pick(WEIGHTS, name, "weights"), data_root()
    fetch(name, root)
    return root / source.folder
