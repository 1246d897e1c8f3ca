"""One command-line option for each field of Spec, made from the field: its name, its description, its default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import SYNONYMS, SpecError
from ..launchers import HERE, Launcher, asked
from ..spec import Spec
from ..tables import TABLES, everything, forms, keywords, table
from ..values import split, value

FIELDS = [name for name in Spec.model_fields if name != "options"]
CHAIN = ("parent", "compress")  # fields of a run that compresses another's model
METAVARS: dict[Any, str] = {bool: "[true|false]", int: "INTEGER", float: "NUMBER", str: "TEXT"}
NAMED = {
    "parent": "ID",
    "compress": "JSON",
    "transforms": "NAME:OPTION=VALUE,...",
    "keep_best": "METRIC",
    "stop_early": "JSON",
    "metrics": "NAMES",
}
"""What some fields take, where their type does not tell."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _place(context: click.Context, option: click.Parameter, text: str | None) -> Launcher | None:
    """The launcher that a text says, so that a wrong one is refused before anything else."""
    return None if text is None else asked(text)


ON = "Where it runs, such as torchrun:1:4,hosts=[node1,node2], slurm:partition=gpu,time=60 or ray:head:6379."
on_option = click.option(
    "--on", metavar="NAME[:KEY=VALUE,...]", default=HERE.name, callback=_place, help=f"{ON}  [local]"
)
on_again = click.option("--on", metavar="NAME[:KEY=VALUE,...]", callback=_place, help=f"{ON}  [as before]")


@dataclass(frozen=True)
class Fields:
    """What a command line says of a spec: fields by name (None where it is silent), options, a file to begin with."""

    named: dict[str, str | None]
    pairs: tuple[str, ...] = ()
    file: Path | None = None

    def changes(self, base: Spec) -> dict[str, Any]:
        """The fields that were named, with options over those of `base`; SpecError if one is not key=value."""
        fields: dict[str, Any] = {name: value for name, value in self.named.items() if value is not None}
        if "transforms" in fields:
            fields["transforms"] = items(fields["transforms"])
        return fields | ({"options": {**base.options, **dict(map(pair, self.pairs))}} if self.pairs else {})

    def spec(self) -> Spec:
        """The spec that they make; SpecError if the file or a field is refused."""
        base = Spec.load(self.file) if self.file else Spec()
        return base.replace(**self.changes(base))


class FieldOption(click.Option):
    """An option for a field of Spec; what it holds is checked by Spec itself."""


def spec_options(*but: str, fresh: bool = True) -> Callable[..., Any]:
    """
    Give a SpecCommand an option for each field of Spec but some, and --option; it is called with `fields`.

    A `fresh` spec begins with the defaults, which help shows, or with a file's: --spec. Any other begins with that of
    --parent, and the command is called with its id too.
    """
    file_help = "Start from a YAML or JSON file of fields."
    parent_help = "The run whose model is compressed.  [the latest]"
    file = click.option("--spec", "file", type=click.Path(path_type=Path), help=file_help)
    parent = click.option("--parent", metavar="ID", help=parent_help)

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        command = (file if fresh else parent)(command)
        command = click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help=_option_help())(command)
        for name in (name for name in reversed(FIELDS) if name not in but):
            field = Spec.model_fields[name]
            kind: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if field.annotation is bool else {}
            kind |= {"metavar": _metavar(name), "help": _help(name, fresh)}
            command = click.option(f"--{name.replace('_', '-')}", name, cls=FieldOption, **kind)(command)
        return command

    return give


class SpecCommand(click.Command):
    """A command that takes fields of Spec, shows them apart in its help, and knows what they are called elsewhere."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, with all that was said of a spec as one."""
        named = {p.name: ctx.params.pop(p.name) for p in self.params if isinstance(p, FieldOption) and p.name}
        ctx.params["fields"] = Fields(named, ctx.params.pop("pairs"), ctx.params.pop("file", None))
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two lists of options: what to train, and how to run the command."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = [(p.name in FIELDS, record) for p in options if (record := p.get_help_record(ctx))]
        for title, fields in (("What to train", True), ("Options", False)):
            with formatter.section(title):
                formatter.write_dl([record for is_field, record in records if is_field == fields])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and name the right field for what other tools call it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if field := SYNONYMS.get(error.option_name.lstrip("-").replace("-", "_")):
                near = f"--{field.replace('_', '-')}"  # not near in its letters, which is all that click looks at
                raise click.UsageError(f"{error.message} Did you mean {near!r}?", error.ctx) from None
            raise


def _option_help() -> str:
    """The names that the tables' entries take."""
    options = {
        family: sorted({name for entry in everything(family) for name in keywords(entry)})
        for family in (*TABLES, "metric")
    }
    names = "; ".join(f"{family}: {', '.join(names)}" for family, names in options.items() if names)
    return f"An option of what was chosen, one at a time ({names})."


def pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE as both; a value is taken as JSON where it is, else as text."""
    name, equals, setting = text.partition("=")
    if not (name and equals):
        raise SpecError(f"option={text!r}: must be key=value, such as --option dropout=0.2")
    return name.strip(), value(setting)


def link(text: str) -> Any:
    """`prune:0.5` or `prune:ratio=0.5,rounds=2` as a link of a chain."""
    name, _, rest = text.partition(":")
    if not rest:
        return name
    parts = split(rest)
    if len(parts) == 1 and "=" not in parts[0]:
        return (name, value(parts[0]))
    if any("=" not in part for part in parts):
        raise SpecError(f"link={text!r}: must be NAME, NAME:VALUE or NAME:KEY=VALUE,..., such as prune:ratio=0.5")
    return (name, dict(map(pair, parts)))


def items(text: str) -> Any:
    """`flip,crop:padding=4,fill=reflect` as a list of links; what is JSON stays as it is."""
    if text.lstrip().startswith(("[", "{")):
        return text
    links: list[str] = []
    for part in split(text):
        option = "=" in part and ":" not in part.partition("=")[0]
        if option and links:
            links[-1] += f",{part}"
        else:
            links.append(part)
    return [link(part.strip()) for part in links if part.strip()]


def _metavar(name: str) -> str:
    field = Spec.model_fields[name]
    if name in NAMED:
        return NAMED[name]
    choices = getattr(field.annotation, "__args__", None)
    if choices:
        return f"[{'|'.join(choices)}]"
    return "NAME" if name in TABLES else METAVARS[field.annotation]


def _help(name: str, with_default: bool) -> str:
    field = Spec.model_fields[name]
    text = (field.description or "").rstrip(".")
    if name in TABLES:
        text = f"{text.split(', a name of')[0]}: {', '.join([*table(name), *forms(table(name))])}"
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"{text}. [{default}]" if with_default and default not in ("", [], {}) else f"{text}."
