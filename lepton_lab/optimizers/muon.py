"""
Muon for hidden weights and AdamW for the rest, as one Optimizer with one state_dict.

Source: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon); the size of the step from J. Liu and others, "Muon is scalable for LLM
training", arXiv:2502.16982, which makes an lr tuned for AdamW serve both parts. `torch.optim.Muon` takes 2-D
parameters only, and two optimizers would be two states to save, steer and shard.

Legend of the shape comments: R rows (output units), S columns (inputs of one unit; for a kernel, channels * h * w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at 0 while singular values stay within about 0.7 to 1.2 (Jordan)
ITERATIONS = 5
RMS = 0.2  # root mean square of AdamW's usual update, which the orthogonal one is scaled to (Liu)


def hidden_first(params: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels but the last (the output layer) for Muon, and all else for AdamW, as Jordan advises."""
    params = list(params)
    matrices = [p for p in params if p.ndim >= 2][:-1]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in params if id(p) not in chosen]


class Muon(torch.optim.Optimizer):
    """
    Muon on `matrices` (2-D, or more: flattened from the second dimension on), AdamW on `rest`.

    Either list may be empty, not both. The parameter groups are told apart by their key "muon"; both start with the
    same lr.

    Parameters
    ----------
    matrices, rest
        Parameters of each part.
    lr
        Learning rate, above 0.
    momentum
        Muon's momentum, from 0 to below 1.
    weight_decay
        Decoupled weight decay of both parts, 0 or more.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        rest: list[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        groups = [{"params": matrices, "muon": True}, {"params": rest, "muon": False}]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure`, if given, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = _muon if group["muon"] else _adamw
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    update(p, p.grad, self.state[p], group)
        return loss


def orthogonal(g: Tensor) -> Tensor:
    """
    Nearly the orthogonal matrix nearest to `g`, by five steps of a quintic Newton-Schulz iteration.

    Parameters
    ----------
    g
        Matrix (R, S).

    Returns
    -------
    Tensor
        (R, S) with the singular vectors of `g` and singular values of about 0.7 to 1.2.
    """
    a, b, c = QUINTIC
    # Half precision is enough for directions, and fast where there are tensor cores; on a CPU it is neither.
    x = g.bfloat16() if g.is_cuda else g
    wide = x if g.shape[0] <= g.shape[1] else x.T  # (min(R, S), max(R, S)): the smaller Gram matrix
    wide = wide / (wide.norm() + 1e-7)  # no singular value above 1
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide if g.shape[0] <= g.shape[1] else wide.T).to(g.dtype)


def _muon(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Step: b = mu b + (1 - mu) g; w -= lr * 0.2 sqrt(max(R, S)) * orthogonal((1 - mu) g + mu b); mu is momentum."""
    if not state:
        state["momentum_buffer"] = torch.zeros_like(p)
    buffer = state["momentum_buffer"].lerp_(g, 1 - group["momentum"])
    ahead = g.lerp(buffer, group["momentum"]).flatten(1)  # (R, S)
    step = group["lr"] * RMS * max(ahead.shape) ** 0.5
    p.add_(orthogonal(ahead).reshape(p.shape), alpha=-step)


def _adamw(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Step of Adam (see `builders.adam`); the decay of the weight is already done."""
    if not state:
        state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
    state["step"] += 1
    m = state["exp_avg"].lerp_(g, 1 - BETAS[0])
    v = state["exp_avg_sq"].mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
    bias1, bias2 = (1 - beta ** state["step"].item() for beta in BETAS)
    p.addcdiv_(m, (v / bias2).sqrt_().add_(EPSILON), value=-group["lr"] / bias1)
