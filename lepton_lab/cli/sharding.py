"""lepton-lab data shard: a data set as files that are read block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from ..spec import Spec
from .options import pair

EXAMPLES = """
\b
Examples:
  lepton-lab data shard mnist shards/mnist
  lepton-lab data shard images:photos/ s3://bucket/photos --option size=64
  lepton-lab run --dataset shards:shards/mnist --model mnist_cnn

DEST is a new folder, or a prefix of a store; it is a set once its index.json
is there. Exit status: 0; 2 refused.
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="SRC")
@click.argument("dest", metavar="DEST")
@click.option("--size", type=click.IntRange(min=1), default=32, show_default=True, help="Megabytes of a shard, about.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order, and of what is held out.")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help="An option of the data set, one at a time.")
@click.option("--parquet", is_flag=True, help="Parquet files instead of tars.")
def shard(source: str, dest: str, size: int, seed: int, pairs: tuple[str, ...], parquet: bool) -> None:
    """Write a data set, by name or path, as shards: SRC as of `run --dataset`."""
    from .. import datasets

    data = datasets.load(Spec(dataset=source, seed=seed, options=dict(map(pair, pairs))))
    only: Sequence[str] = getattr(datasets.DATASETS[source], "tasks", ())
    if len(only) == 1:
        data = replace(data, task=only[0])  # which the name of shards does not tell
    index = datasets.write_shards(data, dest, megabytes=size, seed=seed, columns=parquet, told=click.echo)
    counts = ", ".join(f"{split} {sum(s.samples for s in shards):,}" for split, shards in index.splits.items())
    click.echo(f"{dest}: {counts}")
