"""How a model's weights are drawn before training, by name: an option of every model of the table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn

Initialisation = Literal["own", "gaussian", "xavier", "kaiming", "orthogonal"]
DEVIATION = 0.02  # of "gaussian", as in GPT and BERT
MEANING = """
    initialisation
        How weights are drawn: "own" as suits this model; "gaussian" with a standard deviation of 0.02; "xavier",
        "kaiming" and "orthogonal" by the sizes of each layer, see `lepton_lab.models.initialising`."""


def drawn_twice(sample: Any, *, initialisation: str, pretrained: str = "", **others: Any) -> str:
    """The sentence for weights that would be drawn anew though others trained them."""
    if initialisation == "own" or not pretrained:
        return ""
    return (
        f"options={{'initialisation': {initialisation!r}}}: would draw the weights of pretrained={pretrained!r} "
        "anew; leave one of them out"
    )


def initialisable(maker: Any, refuse: Callable[..., str]) -> Any:
    """
    A maker of a model that takes one more option, `initialisation`, which its docstring tells too.

    What `refuse` says of samples and options is raised as a SpecError before anything is made.
    """

    @functools.wraps(maker)
    def make(
        shape: tuple[int, ...],
        classes: int,
        vocabulary: int = 0,
        *,
        initialisation: Initialisation = "own",
        **options: Any,
    ) -> nn.Module:
        if why := refuse(shape, classes, vocabulary, initialisation=initialisation, **options):
            raise SpecError(why)
        model: nn.Module = maker(shape, classes, vocabulary, **options)
        if initialisation != "own":
            initialise(model, initialisation)
        return model

    known = inspect.signature(maker)
    option = inspect.Parameter(
        "initialisation", inspect.Parameter.KEYWORD_ONLY, default="own", annotation=Initialisation
    )
    make.__signature__ = known.replace(parameters=[*known.parameters.values(), option])  # type: ignore[attr-defined]
    about, raises, rest = (maker.__doc__ or "").rstrip().partition("\n\n    Raises\n")
    make.__doc__ = f"{about}{MEANING}{raises}{rest}"
    return make


def initialise(model: nn.Module, how: Initialisation) -> None:
    """
    Draw all weights of a model anew, and put its biases to 0; norms, and what else has one axis, stay as they are.

    "gaussian": normal, of one size for every layer (0.02), which suits a width of about 1/0.02² = 2,500, and lets the
    signal vanish in a narrow, deep net. "xavier": variance 2 / (inputs + outputs), which keeps the signal forward and
    the gradient backward where units are near linear (Glorot and Bengio, Understanding the difficulty of training deep
    feedforward neural networks, 2010). "kaiming": 2 / inputs, since a ReLU halves the mean square (He and others,
    arXiv:1502.01852). "orthogonal": rows, or columns, at right angles, which keeps lengths through any number of linear
    layers (Saxe and others, arXiv:1312.6120), times sqrt(outputs / inputs) where there are more outputs.

    A row of a table, such as an embedding, is looked up and not summed: it counts as a layer of its own width.
    """
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvTransposeNd

    with torch.no_grad():
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                if p.ndim >= 2:
                    looked_up = isinstance(module, nn.Embedding) or name == "positions"
                    draw(p, how, looked_up, isinstance(module, _ConvTransposeNd))
                elif name.startswith("bias"):
                    p.zero_()


def draw(weight: Tensor, how: Initialisation, looked_up: bool = False, transposed: bool = False) -> None:
    """
    Draw a weight in place: (outputs, inputs, ...), or (inputs, outputs, ...) where `transposed`; or a table.

    A table (rows, width) is of vectors that are looked up.
    """
    from torch import nn

    if how == "orthogonal":
        nn.init.orthogonal_(weight, max(1, len(weight) / weight[0].numel()) ** 0.5)
        return
    outputs, inputs = (weight.shape[1], weight.shape[1]) if looked_up else weight.shape[:2]
    if transposed:
        outputs, inputs = inputs, outputs
    kernel = weight[0, 0].numel()  # 1 where it is no convolution
    variance = {"gaussian": DEVIATION**2, "xavier": 2 / (inputs + outputs) / kernel, "kaiming": 2 / inputs / kernel}
    nn.init.normal_(weight, 0, variance[how] ** 0.5)
