"""What to do about errors that torch tells in words of its own."""

from __future__ import annotations

import re

TYPES = (
    r"must have the same dtype, but got (\w+) and (\w+)|expected scalar type (\w+) but found (\w+)|"
    r"Input type \((?:torch\.)?(\w+)\) and (?:bias|weight) type \((?:torch\.)?(\w+)\)"
)
NO_TENSOR = (
    r"argument 'input' \(position 1\) must be Tensor, not (\w+)|"
    r"'(tuple|dict|list|\w*Output\w*)' object has no attribute '(?:reshape|flatten|numel)'"
)
# Words of torch's, and what is said before them, with the groups of the pattern filled in.
REMEDIES = {
    r"Target (-?\d+) is out of bounds": (
        "a label is {0}, and the model scores no class of that number: labels count from 0, so take y - 1 where they "
        "run from 1, or give the model more outputs"
    ),
    r"Expected more than 1 value per channel": (
        "batch normalisation can't take a batch of one sample: change batch_size"
    ),
    r"Expected to have finished reduction in the prior iteration": (
        "a parameter had no part in the loss of a step: give options={{'find_unused_parameters': True}}"
    ),
    r"marked as ready twice|mark a variable ready only once": (
        "a parameter was computed with twice in one step, as by reentrant activation checkpointing: checkpoint with "
        "use_reentrant=False"
    ),
    NO_TENSOR: (
        "the model gives a {0}, and the usual loss takes a tensor: give loss=..., a function of (output, target)"
    ),
    TYPES: (
        "numbers of two types meet, {0} and {1}: the model's weights are of one, and x of integers reaches it as it "
        "is, so make such x float32"
    ),
    r"result type Float can't be cast to the desired output type Long|Expected floating point type for target": (
        "the loss takes targets of floats, and y are whole numbers: give y.float(), or y.argmax(1) where each row "
        "marks one class"
    ),
}


def remedied(message: str) -> str:
    """The message, with what to do before it where that is known."""
    for pattern, remedy in REMEDIES.items():
        if found := re.search(pattern, message):
            groups = [group for group in found.groups() if group is not None]
            first = next((line for line in message.splitlines() if re.search(pattern, line)), message)
            return f"{remedy.format(*groups)} ({first.strip()[:200]})"
    return message
