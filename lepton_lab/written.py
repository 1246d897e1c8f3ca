"""A spec in writing: its fields as YAML, or as a script, and how a file or a text of them is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SpecError
from .values import parsed


def as_yaml(fields: Mapping[str, Any]) -> str:
    """Fields as YAML."""
    import yaml

    return yaml.safe_dump(fields, sort_keys=False)


def script(fields: Mapping[str, Any]) -> str:
    """A script that repeats the run of a spec with these fields, and exits with 0 if it is done."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in fields.items())
    return (
        '"""Repeats a Lepton Lab run: python this_file.py"""\n\nimport lepton_lab as lab\n\n'
        f"spec = lab.Spec(\n{arguments})\n\n"
        'if __name__ == "__main__":\n'
        "    run = lab.launch(spec)\n"
        "    state = run.wait()\n"
        "    print(run.id, state, run.folder)\n"
        '    raise SystemExit(state != "done")\n'
    )


def read(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields in a YAML or JSON file, or in YAML text; a SpecError says why there are none."""
    text = str(source)
    named = text.endswith((".yaml", ".yml", ".json")) and "\n" not in text and ": " not in text
    if isinstance(source, os.PathLike) or named:
        text = _content(source)
    try:
        values = parsed(text)
    except ValueError as error:
        raise SpecError(f"the spec is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SpecError(f"the spec must be lines of `field: value`, not {text.strip()[:60]!r}")
    return {str(name): value for name, value in values.items()}


def _content(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"spec file {str(path)!r} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(
            f"spec file {str(path)!r} is not text in UTF-8 (at byte {error.start}): save it as UTF-8"
        ) from None
