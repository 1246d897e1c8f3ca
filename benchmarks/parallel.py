"""Two processes: our DDP and FSDP against the same by hand, and against one process."""

from __future__ import annotations

from . import ours
from .processes import image_data, pinned, python, take_turns
from .rows import Row

TITLE = "CNN (conv 32-64, dense 128), global batch 1024, two processes, one core each"
BATCH, WORLD = 1024, 2


def measure(quick: bool) -> list[Row]:
    """Training rates over all processes, of the same model in the same memory format."""
    import lepton_lab as lab

    data = image_data()
    epochs = 30 if data == "digits" else 1
    spec = lab.Spec(
        dataset=data, model="mnist_cnn", batch_size=BATCH, epochs=epochs, eval_every=0, checkpoint_every=0
    )  # fmt: skip

    def of(strategy: str, world: int) -> float:
        return ours.step_rate(ours.train(spec.replace(strategy=strategy, world=world), world))

    def by_hand(strategy: str) -> float:
        with pinned(WORLD):
            return python("parallel_by_hand", strategy, data, BATCH, WORLD, epochs)

    contenders = {
        "ddp": lambda: of("ddp", WORLD),
        "ddp by hand": lambda: by_hand("ddp"),
        "fsdp": lambda: of("fsdp", WORLD),
        "fsdp by hand": lambda: by_hand("fsdp"),
        "one process": lambda: of("single", 1),
    }
    rates = take_turns(contenders, 1 if quick else 5)
    unit = "samples/s"
    return [
        Row(f"ddp on {data}, the same by hand", rates["ddp"], unit, rates["ddp by hand"], at_least=0.95),
        Row(f"fsdp on {data}, the same by hand", rates["fsdp"], unit, rates["fsdp by hand"], at_least=0.95),
        Row(f"ddp on {data}, one process on one core", rates["ddp"], unit, rates["one process"], at_least=1.7),
    ]
