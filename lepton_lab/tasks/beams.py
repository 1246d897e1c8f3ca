"""
Beam search: several targets are followed at a time, of which the most likely is taken.

Legend of the shape comments: B samples, S tokens of a source, T of a target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def decode(
    model: nn.Module, source: Tensor, length: int, start_token: int = 1, end_token: int = 2, beams: int = 1
) -> Tensor:
    """
    Write the most likely target of each source (B, S), by beam search: (B, T).

    Parameters
    ----------
    model
        Trained, such as `run.model()`.
    length
        Most tokens of a target; after its end it is filled up with `end_token`.
    beams
        Targets that are followed at a time; 1 takes the most likely token each time (greedy).
    """
    import torch

    with torch.no_grad():
        count, source = len(source), source.repeat_interleave(beams, 0)
        tokens = source.new_full((len(source), 1), start_token)
        first = torch.arange(count, device=source.device)[:, None] * beams  # (B, 1), of each sample's beams
        chance = torch.zeros(count, beams, device=source.device)
        chance[:, 1:] = -torch.inf  # all beams are the same yet
        over = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        for _ in range(length):
            scores = model(source, tokens)[:, -1].log_softmax(-1).masked_fill(over[:, None], -torch.inf)
            scores[over, end_token] = 0.0
            kinds = scores.shape[1]
            chance, place = (chance.view(-1, 1) + scores).view(count, -1).topk(beams, 1)
            parent, token = (first + place // kinds).flatten(), (place % kinds).flatten()
            tokens, over = torch.cat([tokens[parent], token[:, None]], 1), over[parent] | (token == end_token)
            if over.all():
                break
    return tokens.view(count, beams, -1)[:, 0, 1:]
