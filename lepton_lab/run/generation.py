"""Text from a run that learned to continue it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import spelling
from ..errors import LabError

if TYPE_CHECKING:
    from .handle import Run


def generate(run: Run, prompt: str, count: int = 200, *, temperature: float = 0.8, seed: int = 0) -> str:
    """
    Let a run's model continue a text; from its last checkpoint, so a live run will do too.

    Parameters
    ----------
    run
        A run on text, such as `dataset="pydocs", model="gpt"`.
    prompt
        Where the text begins, at least one character.
    count
        Tokens to add: characters, or bytes or pieces of words where the run learned those.
    temperature
        1 draws each as the model expects it, less plays safer, 0 always takes the likeliest.
    seed
        Seed of the draws; the same gives the same text.

    Returns
    -------
    str
        The prompt and what follows it.

    Raises
    ------
    LabError
        If the run is not on text, has no checkpoint yet, or never saw a character of the prompt.
    """
    import torch

    from ..models import sample

    if not prompt:
        raise LabError("prompt='': must be at least one character, for the model to continue")
    model, facts = run.model(), run.facts
    text = "" if facts.get("pieces") else facts.get("tokens")  # of texts with labels nothing is continued
    names = facts["classes"] if text == "characters" else None
    pieces = spelling.pieces_of(facts["tokenizer"]) if text and facts.get("tokenizer") else None
    if names is None and pieces is None and text != "bytes":
        raise LabError(
            f"run {run.id!r} was trained on {run.spec.dataset!r}, which is no text of characters or bytes: train a gpt "
            "on 'pydocs' or 'tinyshakespeare'; tokens of your own continue with lepton_lab.models.sample"
        )
    tokens = pieces(prompt) if pieces else list(prompt.encode()) if names is None else _numbers(prompt, names, run)
    context = facts["shape"][0]
    drawn = sample(model, torch.tensor(tokens), count, context=context, temperature=temperature, seed=seed).tolist()
    if pieces:
        return spelling.spelled(drawn, facts["classes"], facts["tokens"])
    return bytes(drawn).decode(errors="replace") if names is None else "".join(names[token] for token in drawn)


def _numbers(prompt: str, names: list[str], run: Run) -> list[int]:
    """The tokens of a prompt's characters."""
    numbers = {name: token for token, name in enumerate(names)}
    unknown = [character for character in dict.fromkeys(prompt) if character not in numbers]
    if unknown:
        raise LabError(
            f"prompt={prompt[:40]!r}: {', '.join(map(repr, unknown))} is not among the {len(numbers)} characters that "
            f"run {run.id!r} learned; leave it out, or train with options={{'tokens': 'bytes'}}"
        )
    return [numbers[character] for character in prompt]
