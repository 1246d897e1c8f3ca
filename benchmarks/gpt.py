"""GPT in bf16, compiled, on one GPU: our training against the same by hand, in tokens/s and of what the GPU can do."""

from __future__ import annotations

from typing import Any

from . import ours
from .processes import cores, python, take_turns
from .rows import Row

TITLE = "GPT on pydocs, bf16, torch.compile, one GPU"
SIZES = {"width": 768, "depth": 12, "heads": 12, "context": 512}
BATCH, EPOCHS = 32, 8


def measure(quick: bool) -> list[Row]:
    """Tokens per second after the first epoch, which compiles; nothing where there is no GPU."""
    from lepton_lab.launchers.devices import gpus

    return compare("cuda", SIZES, BATCH, EPOCHS, 1 if quick else 3) if gpus() else []


def compare(device: str, sizes: dict[str, Any], batch: int, epochs: int, repeats: int) -> list[Row]:
    """Ours and the loop by hand in turns, and the arithmetic that tokens take beside that of a large product."""
    import lepton_lab as lab

    spec = lab.Spec(
        dataset="pydocs", model="gpt", optimizer="adamw", strategy="single", precision="bf16", compile=True,
        device=device, batch_size=batch, epochs=epochs, eval_every=0, checkpoint_every=0, options=sizes,
    )  # fmt: skip
    words = [device, str(batch), str(epochs), *(str(sizes[name]) for name in ("width", "depth", "heads", "context"))]

    def rate() -> float:
        run = ours.train(spec, len(cores()))
        first = max(row["step"] for row in run.rows("train") if row["epoch"] == 0)  # its last batch compiles once more
        return ours.step_rate(run, first + ours.SKIPPED) * sizes["context"]

    rates = take_turns(
        {
            "ours": rate,
            "by hand": lambda: python("gpt_by_hand", *words),
            "peak": lambda: python("gpt_by_hand", "peak", device),
        },
        repeats,
    )
    per_token = python("gpt_by_hand", "flops", *words)
    used = [rate * per_token / peak for rate, peak in zip(rates["ours"], rates["peak"], strict=True)]
    hand = [rate * per_token / peak for rate, peak in zip(rates["by hand"], rates["peak"], strict=True)]
    return [
        Row("tokens, the same by hand", rates["ours"], "tokens/s", rates["by hand"], at_least=0.97),
        Row("model-FLOP utilisation, of a bf16 product 4096 x 4096", used, "", hand),
    ]
