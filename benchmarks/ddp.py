"""Two processes: our DDP against DDP by hand."""

from __future__ import annotations

from . import ours
from .processes import image_data, pinned, python, take_turns
from .rows import Row

TITLE = "CNN (conv 32-64, dense 128), global batch 1024, ddp over two processes, one core each"
BATCH, WORLD = 1024, 2


def measure(quick: bool) -> list[Row]:
    """One row: training rates over both processes, of the same model in the same memory format."""
    import lepton_lab as lab

    data = image_data()
    epochs = 30 if data == "digits" else 1
    spec = lab.Spec(
        dataset=data, model="mnist_cnn", batch_size=BATCH, epochs=epochs, strategy="ddp", world=WORLD,
        eval_every=0, checkpoint_every=0,
    )  # fmt: skip

    def by_hand() -> float:
        with pinned(WORLD):
            return python("ddp_by_hand", data, BATCH, WORLD, epochs)

    contenders = {"ours": lambda: ours.step_rate(ours.train(spec, WORLD)), "by_hand": by_hand}
    rates = take_turns(contenders, 1 if quick else 5)
    return [Row(f"steps on {data}, DDP by hand", rates["ours"], "samples/s", rates["by_hand"], at_least=0.95)]
