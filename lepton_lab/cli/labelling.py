"""lepton-lab rename, tag, note, archive, delete: what people call runs, and runs put away."""

from __future__ import annotations

import click

from ..run.handle import attach
from ..store.folder import ENDED

run_id = click.argument("id")


@click.command()
@run_id
@click.argument("name")
def rename(id: str, name: str) -> None:
    """Give a run another name, "" for none."""
    run = attach(id)
    run.rename(name)
    click.echo(f"{run.id}  {run.name or 'has no name'}")


@click.command()
@run_id
@click.argument("tags", metavar="[TAG]...", nargs=-1)
def tag(id: str, tags: tuple[str, ...]) -> None:
    """Let these be a run's tags, in place of those it had."""
    run = attach(id)
    run.tag(*tags)
    click.echo(f"{run.id}  {', '.join(run.tags) or 'has no tags'}")


@click.command()
@run_id
@click.argument("text")
def note(id: str, text: str) -> None:
    """Write down something about a run, "" for nothing."""
    run = attach(id)
    run.annotate(text)
    click.echo(f"{run.id}  {run.note or 'has no note'}")


@click.command()
@run_id
@click.option("--undo", is_flag=True, help="Put it back.")
def archive(id: str, undo: bool) -> None:
    """Put a run out of sight; nothing of it is removed."""
    run = attach(id)
    run.archive(not undo)
    click.echo(f"{run.id}  {'archived' if run.archived else 'not archived'}")


@click.command()
@run_id
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(id: str, yes: bool) -> None:
    """Remove a run for good: curves, checkpoints, artifacts, logs."""
    run = attach(id)
    if not yes and run.state in ENDED:  # else it is refused below, and nothing is to be asked
        click.confirm(f"Remove {run!r} and all that is in {run.folder}?", abort=True)
    run.delete()
    click.echo(f"{run.id}  deleted")


COMMANDS = (rename, tag, note, archive, delete)
