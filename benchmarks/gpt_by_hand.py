"""GPT as one would train it: `python -m benchmarks.gpt_by_hand DEVICE BATCH EPOCHS WIDTH DEPTH HEADS CONTEXT`."""

from __future__ import annotations

import sys
import time

import torch
from torch.nn import functional as F

from lepton_lab.datasets import DATASETS
from lepton_lab.files import data_root
from lepton_lab.models import MODELS

from .ours import SKIPPED


def rate(device: str, batch: int, epochs: int, *sizes: int) -> float:
    """Tokens per second from step SKIPPED of the second epoch on: by then the short batch is compiled, too."""
    model, x, y = made(*sizes)
    model, x, y = model.to(device), x.to(device), y.to(device)
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.0, fused=True)
    step = tokens = 0
    after = -(-len(x) // batch) + SKIPPED
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(batch):
            index = index.to(device)
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                loss = F.cross_entropy(compiled(x[index].long()).flatten(0, 1), y[index].long().flatten())
            loss.backward()
            optimizer.step()
            step += 1
            tokens += x.shape[1] * len(index)
            if step == after:
                wait(device)
                start, tokens = time.perf_counter(), 0
    wait(device)
    return tokens / (time.perf_counter() - start)


def made(width: int, depth: int, heads: int, context: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The model and its training data."""
    torch.manual_seed(0)
    data = DATASETS["pydocs"](data_root(), 0, context=context)
    model = MODELS["gpt"](data.shape, len(data.classes), data.vocabulary, width=width, depth=depth, heads=heads)
    return model, *data.train


def flops(width: int, depth: int, heads: int, context: int) -> float:
    """
    Operations of a training step a token: 6 a weight that is multiplied by, and 12 x depth x width x context.

    The second part is attention's; as in Chowdhery and others, PaLM, arXiv:2204.02311, appendix B.
    """
    model, *_ = made(width, depth, heads, context)
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    return 6.0 * weights + 12.0 * depth * width * context


def peak(device: str) -> float:
    """Operations per second of a large product in bf16."""
    n, times = 4096, 20 if device == "cuda" else 1
    a = torch.randn(n, n, dtype=torch.bfloat16, device=device)
    a @ a
    wait(device)
    start = time.perf_counter()
    for _ in range(times):
        a @ a
    wait(device)
    return times * 2 * n**3 / (time.perf_counter() - start)


def wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    first, *words = sys.argv[1:]
    if first == "peak":
        print(peak(words[0]))
    elif first == "flops":
        print(flops(*map(int, words[3:])))
    else:
        print(rate(first, *map(int, words)))
