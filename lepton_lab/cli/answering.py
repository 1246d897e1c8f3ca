"""lepton-lab generate, predict and serve: what a model answers, to a prompt, to a file of samples or over HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

import click

from ..errors import SpecError
from ..run.handle import attach
from .options import as_json

GENERATE_EXAMPLES = """
\b
Examples:
  lepton-lab generate 'The def statement'              the latest run
  lepton-lab generate 'ROMEO:' --run plays --count 500 --temperature 0.5

A run that is still going answers from its last checkpoint. Exit status: 0; 2 refused.
"""
PREDICT_EXAMPLES = """
\b
Examples:
  lepton-lab predict model.lepton images.npy
  echo '{"samples": [[0.1, 0.2]]}' | lepton-lab predict model.lepton
  echo '{"inputs": {"input_ids": [[5, 7]]}}' | lepton-lab predict model.lepton --json

Samples are what `POST /predict` takes: JSON, or a file of numpy.save or
numpy.savez. A line is told of each; --json tells all of it. Exit status: 0; 2
refused.
"""
SERVE_EXAMPLES = """
\b
Examples:
  lepton-lab serve model.lepton
  lepton-lab serve model.lepton --port 8000 --batch 32
  LEPTON_LAB_TOKEN=... lepton-lab serve model.lepton --host 0.0.0.0 --port 8000

Ctrl-C (or SIGTERM) ends it, once requests at hand are answered. Exit status:
0 ended so; 2 refused.
"""
TOKEN = "LEPTON_LAB_TOKEN"


@click.command(epilog=GENERATE_EXAMPLES)
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


@click.command(epilog=PREDICT_EXAMPLES, short_help="What a file's model says of samples.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("samples", type=click.File("rb"), default="-")
@as_json
def predict(artifact: Path, samples: IO[bytes], as_json: bool) -> None:
    """Tell what a file's model says of samples, in the terms of its task."""
    from ..artifacts import answering, load
    from ..serving.reading import Refused, read, type_of

    model, body = load(artifact), samples.read()
    try:
        batch, _ = read(body, {"content-type": type_of(body)}, model.signature, model.manifest)
    except Refused as refusal:
        raise SpecError(f"samples: {refusal}") from None
    answers = answering.plain(model.answered(batch))
    if as_json:
        click.echo(json.dumps(answers))
        return
    lines: Any = next((answers[name] for name in (*answering.PREDICTED, "scores") if name in answers), [])
    for line in [lines] if isinstance(lines, dict) else lines:
        click.echo(line if isinstance(line, str) else json.dumps(line))


@click.command(epilog=SERVE_EXAMPLES, short_help="Answer requests over HTTP with an artifact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=0, help="Port to listen on.  [a free one]")
@click.option("--batch", type=int, default=64, show_default=True, help="Samples that one call computes at most.")
@click.option("--wait", type=float, default=0.0, show_default=True, help="Seconds that a call waits for others.")
@click.option("--threads", type=int, default=0, help="Threads of ONNX Runtime.  [all cores]")
def serve(artifact: Path, host: str, port: int, batch: int, wait: float, threads: int) -> None:
    """Serve an artifact over HTTP; the token is taken from LEPTON_LAB_TOKEN, or made up and shown."""
    from ..serving import process, server

    token = os.environ.get(TOKEN, "")
    order = server.ordered(artifact, token, port=port, batch=batch, wait=wait, threads=threads)
    with server.listen(host, port) as listening:
        app = process.load(order)
        url = server.url_of(listening)
        click.echo(f"Serving {artifact.name} at {click.style(url, bold=True)} (page: {url}/docs)")
        click.echo(f"Token: {f'as in {TOKEN}' if token else order['token']}")
        process.run(app, listening)
