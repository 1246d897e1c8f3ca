"""lepton-lab serve: an artifact behind HTTP, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path

import click

EXAMPLES = """
\b
Examples:
  lepton-lab serve model.lepton
  lepton-lab serve model.lepton --port 8000 --batch 32
  LEPTON_LAB_TOKEN=... lepton-lab serve model.lepton --host 0.0.0.0 --port 8000

Ctrl-C (or SIGTERM) ends it, once requests at hand are answered. Exit status:
0 ended so; 2 refused.
"""
TOKEN = "LEPTON_LAB_TOKEN"


@click.command(epilog=EXAMPLES, short_help="Answer requests over HTTP with an artifact.")
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
