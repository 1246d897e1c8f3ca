"""One process: our training loop against loops by hand and against others' frameworks."""

from __future__ import annotations

from . import ours
from .processes import image_data, installed, pinned, python, take_turns
from .rows import Row

TITLE = "MLP 784-128-10, and a CNN on the digits; batch 100, Adam, one process on one core, metrics on"
WHOLE = "first step to end, with validation and checkpoint each epoch and test"


def measure(quick: bool) -> list[Row]:
    """Rows of training rates; each contender trains as many epochs, on the same samples, on the same core."""
    import lepton_lab as lab

    data = image_data()
    epochs = 20 if data == "digits" else 1 if quick else 3
    bare = lab.Spec(dataset=data, model="mlp", batch_size=100, epochs=epochs, eval_every=0, checkpoint_every=0)
    full = bare.replace(eval_every=1, checkpoint_every=1)
    cnn = bare.replace(dataset="digits", model="cnn", epochs=20)

    def peer(name: str, spec: lab.Spec = bare) -> float:
        with pinned(1):
            return python("mlp_peers", name, spec.dataset, spec.epochs, spec.model)

    frameworks = [name for name in ("lightning", "accelerate") if installed(name)]
    peers = ("in_memory", "loader", "in_memory_whole", *frameworks)
    rates = take_turns(
        {
            "ours": lambda: ours.step_rate(ours.train(bare, 1)),
            "in_memory": lambda: peer("in_memory"),
            "cnn": lambda: ours.step_rate(ours.train(cnn, 1)),
            "cnn_in_memory": lambda: peer("in_memory", cnn),
            "ours_whole": lambda: ours.whole_rate(ours.train(full, 1)),
            **{name: lambda name=name: peer(name) for name in peers[1:]},
        },
        1 if quick else 5,
    )
    unit = "samples/s"
    rows = [
        Row(f"steps on {data}, by hand over tensors in memory", rates["ours"], unit, rates["in_memory"], at_least=0.97),
        Row("steps, by hand with a DataLoader", rates["ours"], unit, rates["loader"], at_least=1.4),
        Row("CNN, by hand over tensors in memory", rates["cnn"], unit, rates["cnn_in_memory"], at_least=0.97),
        Row(f"{WHOLE}, by hand in memory", rates["ours_whole"], unit, rates["in_memory_whole"]),
    ]
    for name in frameworks:
        rows.append(Row(f"steps, {name.title()}", rates["ours"], unit, rates[name]))
        rows.append(Row(f"({name.title()} beside the DataLoader by hand)", rates[name], unit, rates["loader"]))
    return rows
