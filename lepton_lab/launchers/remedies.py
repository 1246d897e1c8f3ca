"""What to do about errors that torch tells in words of its own."""

from __future__ import annotations

import re

WHOLE = r"(?:torch\.)?(?:unsigned )?(?:long int|long|int|short|char|bool|Long|Int|Short|Char|Byte|Bool)(?:Tensor)?"
REAL = r"(?:torch\.|c10::)?(?:float|double|half|Float|Double|Half|BFloat16)(?:Tensor)?"
TYPES = (
    r"must have the same dtype, but got (?:({0}) and ({1})|({1}) and ({0}))|"
    r"expected m1 and m2 to have the same dtype, but got: (?:({0}) != ({1})|({1}) != ({0}))|"
    r"expected scalar type ({1}) but found ({0})|Input type \(({0})\) and (?:bias|weight) type \(({1})\)"
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
    r"grad can be implicitly created only for scalar outputs": (
        "the loss gives several numbers, and a step needs one: give their mean"
    ),
    r"does not require grad and does not have a grad_fn": (
        "the loss depends on no weight that is trained: it, or the model, must not detach, nor compute under no_grad"
    ),
    r"marked as ready twice|mark a variable ready only once": (
        "a parameter was computed with twice in one step, as by reentrant activation checkpointing: checkpoint with "
        "use_reentrant=False"
    ),
    NO_TENSOR: (
        "the model gives a {0}, and the usual loss takes a tensor: give loss=..., a function of (output, target)"
    ),
    TYPES.format(WHOLE, REAL): (
        "numbers of two types meet, {0} and {1}: the model's weights are of one, and x of integers reaches it as it "
        "is, so make such x float32: of pictures in a dict or tuple x.float() / 255"
    ),
    TYPES.format(REAL, REAL): (
        "numbers of two types meet, {0} and {1}: x comes in the type of the model's weights where they have one type, "
        "else as float32; so give all weights one type, and what the model adds too: torch.zeros(..., dtype=x.dtype)"
    ),
    r"expected target dtype to be Long or Byte, but got Float|expected scalar type Long but found Float": (
        "the loss takes class numbers as targets, and y are floats: give y.long()"
    ),
    r"result type Float can't be cast to the desired output type Long|Expected floating point type for target|"
    r"Found dtype Long but expected Float": (
        "the loss takes targets of floats, and y are whole numbers: give y.float(), or y.argmax(1) where each row "
        "marks one class"
    ),
}


def remedied(message: str) -> str:
    """The message, with what to do before it where that is known."""
    for pattern, remedy in REMEDIES.items():
        if match := re.search(pattern, message):
            groups = [group for group in match.groups() if group is not None]
            first = next((line for line in message.splitlines() if re.search(pattern, line)), message)
            return f"{remedy.format(*groups)} ({first.strip()[:200]})"
    return message
