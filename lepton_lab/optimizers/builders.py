"""
Optimizers: each takes the parameters in the model's order and the Spec, and gives a torch Optimizer.

Legend of the formulas: w parameter, g its gradient (plus weight_decay * w, unless said otherwise), t steps from 1.
`fused` is one kernel over all parameters, on CPU and CUDA alike but for Adagrad, which torch 2.11 has on CPU alone; the
optimizers without it take torch's own choice, which is `foreach` on CUDA and the plain loop on CPU, where foreach was
measured to be 5 to 10 % slower. Complex weights and sparse gradients have no fused kernel, and take torch's own choice
too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..spec import Spec

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    Params = list[nn.Parameter]

FUSED = ("cpu", "cuda")  # devices for which torch has its fused kernels


def traits(
    *,
    additive: bool = False,
    full_batch: bool = False,
    momentum: bool = False,
    needs_momentum: bool = False,
    whole_matrices: bool = False,
) -> Callable[[Any], Any]:
    """
    Say of an optimizer what others must know of it; where nothing is said, it is none of these.

    Parameters
    ----------
    additive
        Whether its steps are as small as its gradients, since it does not scale each value's by their history.
    full_batch
        Whether each step takes all training samples, in micro-batches of the spec's `batch_size`.
    momentum
        Whether it looks at the spec's `momentum`.
    needs_momentum
        Whether that must be above 0; Spec refuses 0.
    whole_matrices
        Whether it needs whole matrices, so that no rank can update a part of one.
    """

    def mark(build: Any) -> Any:
        build.additive, build.full_batch, build.whole_matrices = additive, full_batch, whole_matrices
        build.momentum, build.needs_momentum = momentum, needs_momentum
        return build

    return mark


@traits(additive=True)
def sgd(params: Params, spec: Spec) -> Optimizer:
    """
    Stochastic gradient descent, without momentum.

    w -= lr * g (Robbins and Monro, 1951). weight_decay is L2.
    """
    return _built("SGD", params, spec, fused=FUSED)


@traits(additive=True, full_batch=True)
def gd(params: Params, spec: Spec) -> Optimizer:
    """
    Full-batch gradient descent: one step an epoch, over all training samples.

    The update of `sgd` (Cauchy, 1847); the training loop gives it the mean gradient of a whole epoch.
    """
    return sgd(params, spec)


@traits(additive=True, momentum=True)
def momentum(params: Params, spec: Spec) -> Optimizer:
    """
    Gradient descent with momentum (heavy ball).

    b = momentum * b + g; w -= lr * b (Polyak, 1964). weight_decay is L2.
    """
    return _built("SGD", params, spec, fused=FUSED, momentum=spec.momentum)


@traits(additive=True, momentum=True, needs_momentum=True)
def nesterov(params: Params, spec: Spec) -> Optimizer:
    """
    Gradient descent with Nesterov's accelerated momentum.

    b = momentum * b + g; w -= lr * (g + momentum * b) (Sutskever and others, ICML 2013). weight_decay is L2.
    """
    return _built("SGD", params, spec, fused=FUSED, momentum=spec.momentum, nesterov=True)


def adam(params: Params, spec: Spec) -> Optimizer:
    """
    Adam: steps scaled by running means of the gradient and of its square.

    m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g^2; w -= lr * m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8)
    (Kingma and Ba, ICLR 2015). weight_decay is L2, thus part of g.
    """
    return _built("Adam", params, spec, fused=FUSED)


def adamw(params: Params, spec: Spec) -> Optimizer:
    """
    Adam with decoupled weight decay.

    As `adam`, but weight decay leaves g alone: w -= lr * weight_decay * w (Loshchilov and Hutter, ICLR 2019).
    """
    return _built("AdamW", params, spec, fused=FUSED)


def rmsprop(params: Params, spec: Spec) -> Optimizer:
    """
    RMSprop: steps scaled by a running mean of the squared gradient.

    v = 0.99 v + 0.01 g^2; w -= lr * g / (sqrt(v) + 1e-8) (Tieleman and Hinton, lecture 6.5, 2012). No momentum.
    weight_decay is L2.
    """
    return _built("RMSprop", params, spec)


def adamax(params: Params, spec: Spec) -> Optimizer:
    """
    Adamax: Adam with the largest recent gradient in place of the mean square.

    m = 0.9 m + 0.1 g; u = max(0.999 u, |g| + 1e-8); w -= lr / (1 - 0.9^t) * m / u (Kingma and Ba, ICLR 2015).
    weight_decay is L2.
    """
    return _built("Adamax", params, spec)


def adagrad(params: Params, spec: Spec) -> Optimizer:
    """
    AdaGrad: steps scaled by the sum of all squared gradients so far.

    s += g^2; w -= lr * g / (sqrt(s) + 1e-10) (Duchi, Hazan and Singer, JMLR 2011). weight_decay is L2.
    """
    return _built("Adagrad", params, spec, fused=("cpu",))


def nadam(params: Params, spec: Spec) -> Optimizer:
    """
    NAdam: Adam with Nesterov's momentum.

    As `adam`, with m looked ahead by a step and a decay that grows with t (Dozat, ICLR workshop, 2016). weight_decay
    is L2.
    """
    return _built("NAdam", params, spec)


@traits(momentum=True, whole_matrices=True)
def muon(params: Params, spec: Spec) -> Optimizer:
    """
    Muon: momentum made orthogonal for hidden weights and kernels, AdamW for the rest.

    See `lepton_lab.optimizers.muon`. One lr and one decoupled weight_decay serve both parts, at the size usual for
    AdamW; `momentum` is Muon's (0.95 in its author's runs).
    """
    from .muon import Muon, hidden_first

    matrices, rest = hidden_first(params)
    return Muon(matrices, rest, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)


def _built(kind: str, params: Params, spec: Spec, fused: tuple[str, ...] = (), **options: Any) -> Optimizer:
    """One of torch's optimizers, by name; on the devices `fused` by one kernel, where that can update all weights."""
    import torch

    if fused:
        options["fused"] = all(p.is_floating_point() and p.device.type in fused for p in params)
    return getattr(torch.optim, kind)(params, spec.lr, weight_decay=spec.weight_decay, **options)


OPTIMIZERS: dict[str, Callable[[Params, Spec], Optimizer]] = {
    "gd": gd,
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adamax": adamax,
    "adagrad": adagrad,
    "nadam": nadam,
    "muon": muon,
}
