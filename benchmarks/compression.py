"""What gradient compression saves, and what it costs in validation."""

from __future__ import annotations

from .processes import pinned
from .rows import Row

TITLE = "Gradient compression: transformer on digits, ddp over two processes, bytes by the kernel's count, beside none"
KINDS = {"fp16": 0.52, "bf16": 0.52, "powersgd": 1 / 8, "topk": 1 / 8}  # part of the bytes that is to be left at most


def measure(quick: bool) -> list[Row]:
    """For each kind a row of bytes a step, one of loss and one of accuracy."""
    epochs = 3 if quick else 30
    whole = learnt("none", epochs)
    rows = []
    for kind, part in KINDS.items():
        sent, loss, accuracy = learnt(kind, epochs)
        rows += [
            Row(f"{kind}: sent a step", [sent], "kB", [whole[0]], at_most=part),
            Row(f"{kind}: validation loss, {epochs} epochs", [loss], "", [whole[1]]),
            Row(f"{kind}: validation accuracy", [accuracy], "", [whole[2]]),
        ]
    return rows


def learnt(compress: str, epochs: int) -> tuple[float, float, float]:
    """Kilobytes that a rank sends a step; loss and accuracy in validation."""
    import lepton_lab as lab

    spec = lab.Spec(
        dataset="digits", model="transformer", strategy="ddp", world=2, epochs=epochs, eval_every=epochs,
        checkpoint_every=0, options={"compress": compress},
    )  # fmt: skip
    with pinned(2):
        run = lab.launch(spec)
        if run.wait() != "done":
            raise RuntimeError(str(run.failure))
    summary = run.summary()
    return run.costs()[0]["bytes"] / 1000, summary["val_loss"], summary["val_accuracy"]
