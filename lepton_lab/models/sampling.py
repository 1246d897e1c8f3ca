"""Text from a trained decoder, a token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn


def sample(
    model: nn.Module, tokens: Tensor, count: int, *, context: int, temperature: float = 1.0, seed: int = 0
) -> Tensor:
    """
    Continue a sequence with tokens drawn from what a decoder expects next.

    Parameters
    ----------
    model
        Gives (B, T) tokens the scores (B, T, K) of each next one, in eval mode.
    tokens
        Whole numbers (T,), at least one.
    count
        Tokens to add.
    context
        Most tokens that the model reads at once; it sees that many of the last.
    temperature
        What scores are divided by: 1 draws as the model expects, less plays safer, 0 always takes the likeliest.
    seed
        Seed of the draws.

    Returns
    -------
    Tensor
        (T + count,) int64, `tokens` first, on their device.

    Raises
    ------
    SpecError
        If there is nothing to continue, or a value is out of range.
    """
    import torch

    if not len(tokens):
        raise SpecError("tokens: must be at least one, for the model to continue")
    if count < 0:
        raise SpecError(f"count={count}: must be 0 or more (tokens to add)")
    if not 0 <= temperature < float("inf"):
        raise SpecError(f"temperature={temperature}: must be 0 or more (1 draws as the model expects)")
    generator = torch.Generator(tokens.device).manual_seed(seed)
    tokens = tokens.long()
    with torch.no_grad():
        for _ in range(count):
            scores = model(tokens[None, -context:])[0, -1].float()  # (K,)
            if temperature:
                chances = (scores / temperature).softmax(0)
                drawn = torch.multinomial(chances, 1, generator=generator)
            else:
                drawn = scores.argmax(0, keepdim=True)
            tokens = torch.cat([tokens, drawn])
    return tokens
