"""Runs of ten steps under a strategy, beside those of one process: what strategies are held against."""

import functools

import torch

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

SMALL = {name: {"width": 32, "depth": 4} for name in ("transformer", "gpt", "rnn")}
# A key's bias has a gradient of nothing but rounding, which Adam blows up: in float32 it can't be compared.
OPTIMIZER = {torch.float64: "adamw", torch.float32: "momentum"}


@functools.cache
def data(model):
    """Ten steps' worth of samples, and a few to evaluate on."""
    name = "pydocs" if model == "gpt" else "digits"
    (x, y), (x_test, y_test) = (getattr(DATASETS[name](data_root(), 0), split) for split in ("train", "test"))
    if model == "gpt":
        x, y, x_test, y_test = (part[:, :16].long() for part in (x, y, x_test, y_test))
    return (x[:160], y[:160]), (x_test[:32], y_test[:32]), (x_test[:32], y_test[:32])


def maker(model, dtype=torch.float64):
    """The model of a table in another precision, made as a user's own would be."""

    def make(shape, classes, vocabulary):
        module = MODELS[model](shape, classes, vocabulary, **SMALL.get(model, {})).to(dtype)

        def cast(_, inputs):
            return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)

        first = next(child for child in module.modules() if child is not module)
        for part in (module, first):
            part.register_forward_pre_hook(cast)
        return module

    return make


def trained(strategy, model, world, dtype=torch.float64, **fields):
    fields = {
        "model": "cell:make",
        "optimizer": OPTIMIZER[dtype],
        "lr": 0.01,
        "clip": 1.0,
        "batch_size": 16,
        "epochs": 1,
        **fields,
    }
    spec = lab.Spec(strategy=strategy, world=world, **fields)
    run = lab.launch(spec, model=maker(model, dtype), data=data(model))
    assert run.wait(120) == "done", run.failure
    return run


@functools.cache
def alone(model, dtype, **fields):
    """Weights and figures of one process."""
    run = trained("single", model, 1, dtype, **fields)
    return run.model().state_dict(), figures(run)


def figures(run):
    return [(row["split"], row["step"], row["loss"], row.get("accuracy")) for row in run.rows("eval")]
