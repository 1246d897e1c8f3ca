"""lepton-lab generate: text from a run that learned to continue it."""

from __future__ import annotations

import json

import click

from ..run.handle import attach
from .options import as_json

EXAMPLES = """
\b
Examples:
  lepton-lab generate 'The def statement'              the latest run
  lepton-lab generate 'ROMEO:' --run plays --count 500 --temperature 0.5

A run that is still going answers from its last checkpoint. Exit status: 0; 2 refused.
"""


@click.command(epilog=EXAMPLES)
@click.argument("prompt")
@click.option("--run", "id", metavar="ID", help="The run whose model continues the text.  [the latest]")
@click.option("--count", type=click.IntRange(min=1), default=200, show_default=True, help="Tokens to add.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.8,
    show_default=True,
    help="1 draws as the model expects, less plays safer, 0 takes the likeliest.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@as_json
def generate(prompt: str, id: str | None, count: int, temperature: float, seed: int, as_json: bool) -> None:
    """Let a run's model continue a text."""
    from ..run.generation import generate as continued

    run = attach(id)
    text = continued(run, prompt, count, temperature=temperature, seed=seed)
    click.echo(json.dumps({"id": run.id, "prompt": prompt, "text": text}) if as_json else text)
