"""lepton-lab data: which data sets and weights there are, what one is, and how it comes here."""

from __future__ import annotations

import json
from typing import Any

import click

from .. import datasets
from ..datasets.paths.naming import taken
from ..errors import SpecError, unknown
from ..files import data_root, sized
from ..tables import table
from .options import as_json, pair
from .sharding import shard
from .showing import console, print_table

EXAMPLES = """
\b
Examples:
  lepton-lab data list                 all there are, and which are here
  lepton-lab data show movielens_100k  what it is, its licence, five samples
  lepton-lab data show images:photos/  your own: classes, sizes, what can't be read
  lepton-lab data get movielens_100k   download it now
  lepton-lab data get minilm           weights too
  lepton-lab data shard mnist shards/  files that are read block by block

Files lie under LEPTON_LAB_DATA. Exit status: 0; 2 refused.
"""
WIDEST = 24  # characters of a licence in the list


@click.group(epilog=EXAMPLES, short_help="Data sets and weights by name: list, show, get, shard.")
def data() -> None:
    """Data sets and weights by name: list them, look at one, download it; write one as shards."""


data.add_command(shard)


@data.command("list")
@as_json
def list_sets(as_json: bool) -> None:
    """Show each data set, and the weights of trained models."""
    records = datasets.overview(table("dataset"), data_root())
    if as_json:
        click.echo(json.dumps(records, indent=1))
        return
    heads = ["name", "kind", "samples", "size", "licence", "here"]
    print_table(console(), heads, [_cells(record) for record in records], left=("name", "kind", "licence"))


@data.command(short_help="What a set is, its licence, and five samples.")
@click.argument("name")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help="An option of the data set, one at a time.")
@as_json
def show(name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Show what a data set is, its source, licence and digests, and where it is here what lies there."""
    options = dict(map(pair, pairs))
    if ":" in name:
        seen = datasets.look(name, **options)
        click.echo(json.dumps(seen.record(), indent=1) if as_json else seen)
        return
    entry = _entry(name)
    if entry is None and options:
        raise SpecError(f"--option {pairs[0]}: {name} are weights, which take no options; leave it out")
    if entry is not None:
        taken(name, entry, options)
    about = datasets.details(name, data_root(), entry)
    here = about["here"] and name not in datasets.WEIGHTS
    if as_json:
        click.echo(json.dumps(about | ({"look": datasets.look(name, **options).record()} if here else {}), indent=1))
    else:
        click.echo(_described(about) + (f"\n\n{datasets.look(name, **options)}" if here else ""))


@data.command(short_help="Download a data set, or weights.")
@click.argument("name")
def get(name: str) -> None:
    """Download a data set, or weights, unless it is here; progress goes to stderr."""
    entry, root = _entry(name), data_root()
    if name not in datasets.SOURCES and name not in datasets.WEIGHTS:
        click.echo(f"{name}: there is nothing to download.")
        return
    paths = datasets.fetch(name, root)
    click.echo(datasets.details(name, root, entry)["folder"] if len(paths) > 1 else str(next(iter(paths.values()))))


def _entry(name: str) -> Any:
    """A data set's entry, None of weights; an unknown name is a SpecError that lists both."""
    if name in datasets.WEIGHTS:
        return None
    sets = table("dataset")
    if name not in sets:
        raise SpecError(f"data={name!r}: {unknown('data set', name, [*sets, *datasets.WEIGHTS])}")
    return sets[name]


def _cells(record: dict[str, Any]) -> list[str]:
    licence = record["licence"]
    return [
        record["name"],
        record["kind"],
        f"{record['samples']:,}" if record["samples"] else "-",
        sized(record["bytes"]) if record["bytes"] else "-",
        licence if len(licence) <= WIDEST else f"{licence[: WIDEST - 3]}...",
        "here" if record["here"] else "-",
    ]


def _described(about: dict[str, Any]) -> str:
    """A data set as people read it."""
    rows = {
        "Kind": about["kind"],
        "Samples": f"{about['samples']:,}" if about["samples"] else "",
        "Licence": about["licence"],
        "Size": sized(about["bytes"]) if about["bytes"] else "",
        "Folder": f"{about['folder']}{'' if about['here'] else ' (not here yet)'}" if "folder" in about else "",
        "Read by": about.get("read", ""),
    }
    text = [click.style(about["name"], bold=True), "", about["about"], ""]
    text += [f"{head:<9} {value}" for head, value in rows.items() if value]
    for head, key in (("From", "urls"), ("Or by", "commands")):
        text += [f"{head:<9} {value}" for value in about.get(key, [])]
    text += [f"{'Digest':<9} {digest}  {file}" for file, digest in about.get("digests", {}).items()]
    return "\n".join(text)
