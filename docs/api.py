"""`python docs/api.py` writes docs/api.md: each public name of the library with the first sentence of its docstring."""

import inspect
from pathlib import Path

import lepton_lab as lab

HEAD = """# The library, name by name

`import lepton_lab as lab`. `help(lab.launch)` tells all about one: what it takes, in which units, and what it refuses.
This page is made from the docstrings, by `python docs/api.py`.
"""


def page() -> str:
    """The text of docs/api.md."""
    text = HEAD
    for title, is_class in (("Functions", False), ("Classes", True)):
        text += f"\n## {title}\n\n| name | what for |\n| --- | --- |\n"
        for name in lab.__all__:
            if isinstance(item := getattr(lab, name), type) == is_class:
                sentence = " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())
                text += f"| `lab.{name}{'()' * (not is_class)}` | {sentence.replace('|', '&#124;')} |\n"
    return text


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
