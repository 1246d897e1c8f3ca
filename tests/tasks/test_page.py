"""docs/tasks.md: each of its examples is a whole program, and its run does what the page says."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

PAGE = (ROOT / "docs" / "tasks.md").read_text()
SECTIONS = re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
PROGRAMS = {head: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)) for head, text in SECTIONS}


@pytest.mark.slow  # the tests of tasks, own metrics and hooks hold the parts
@pytest.mark.parametrize("head", [head for head, program in PROGRAMS.items() if program])
def test_an_example_runs_as_it_stands(head, tmp_path):
    (tmp_path / "example.py").write_text(f"{PROGRAMS[head]}\nassert run.state in ('done', 'stopped'), run.failure\n")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
