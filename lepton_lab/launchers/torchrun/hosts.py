"""A machine that the coordinator starts a node on, here or over ssh, and starts it again where that may help."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from ...host import LOOPBACK, child

CODE = "import sys; from lepton_lab.launchers.torchrun.node import attached; sys.exit(attached(*sys.argv[1:]))"
AGAIN = (1.0, 10.0)  # seconds until a node that ended is started again: at first, and at most
REFUSED = 78  # exit code of a node that can't take part (sysexits.h: EX_CONFIG)
# What will be no other at the next try: by exit code of ssh, of a shell and of Python, what it says and what helps.
LASTING = (
    (255, "Could not resolve hostname", "name the machine as ssh knows it"),
    (255, "Permission denied|Host key verification failed", "see that ssh reaches it without asking anything"),
    (126, "", "say the interpreter there, as lab.Torchrun(..., python=...)"),
    (127, "", "say the interpreter there, as lab.Torchrun(..., python=...)"),
    (1, "No module named", "install the same environment there"),
)


class Host:
    """
    A node that is started on a machine, and again when it ends before the run.

    Attributes
    ----------
    refusal : str
        Why that would be in vain, and what would help; "" where it is not known to be.
    """

    def __init__(self, name: str, python: str, words: list[str], log: Path) -> None:
        self.name, self.python, self.words, self.log = name, python, ["-c", CODE, *words], log
        self.pause, self.due = AGAIN[0], 0.0
        self.process: subprocess.Popen[Any] | None = None
        self.refusal = ""

    def keep(self) -> bool:
        """Start it where it is not there, due, and not in vain; whether it has just become so."""
        now = time.monotonic()
        if self.process is not None and (code := self.process.poll()) is not None:
            self.process, self.due = None, now + self.pause
            self.pause = min(2 * self.pause, AGAIN[1])
            self.refusal = self._refusal(code)
            return bool(self.refusal)
        if self.process is None and now >= self.due and not self.refusal:
            self.process = self._start()
        return False

    def _start(self) -> subprocess.Popen[Any]:
        with self.log.open("ab") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            if self.name in LOOPBACK:
                return child(self.words, **options)
            # Its parent is then the connection's process, with which it ends, and no shell.
            command = "exec " + shlex.join([self.python, "-P", *self.words])
            return subprocess.Popen(["ssh", "-o", "BatchMode=yes", self.name, command], **options)

    def _refusal(self, code: int) -> str:
        if code == REFUSED:
            return self.said
        remedies = (remedy for number, words, remedy in LASTING if number == code and re.search(words, self.said))
        return next((f"{self.said.rstrip('.')}; {remedy}" for remedy in remedies), "")

    @property
    def said(self) -> str:
        """The last line of its log, once it has ended; "" before."""
        lines = self.log.read_text(errors="replace").splitlines() if self.due else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def there(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it by force where it is there still."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
