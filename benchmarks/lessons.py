"""`python -m benchmarks.lessons`: every notebook within Binder's limits, and the table of docs/binder.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_lab.files import write_text
from tests.browser.jupyter import TOKEN, Jupyter

from .limits import ROLES, Limit
from .processes import ROOT, cores, environment, pinned

NOTEBOOKS = ROOT / "notebooks"
LANDING = "index.ipynb"  # stays open beside a lesson, with a kernel of its own
PAGE = ROOT / "docs" / "binder.md"
BEGIN, END = "<!-- made by `python -m benchmarks.lessons` -->", "<!-- until here -->"
MOST = 2e9  # bytes for server, kernel, supervisor and ranks together
SECONDS = {"smoke": 180, "full": 600}  # that a notebook may take
HEADER = ("notebook", "sizes", "time", "together", *ROLES)


@dataclass
class Taken:
    """What a notebook took: seconds, and bytes at most, of all processes together and of each role."""

    seconds: float
    peak: int
    peaks: dict[str, int]


class Refused(RuntimeError):
    """A notebook that does not run within the limits."""


def paths() -> list[Path]:
    """Lessons, applications, experiments and the app."""
    patterns = ("[0-9]*.ipynb", "app.ipynb", "applications/*.ipynb", "experiments/*.ipynb")
    return [path for pattern in patterns for path in sorted(NOTEBOOKS.glob(pattern))]


def sources(path: Path) -> list[str]:
    """Code of a notebook's cells."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def launches(path: Path) -> bool:
    """Whether a notebook's cells start a run."""
    return any(word in code for code in sources(path) for word in ("lab.launch(", "lab.race(", "lab.find_lr("))


@contextmanager
def as_on_binder(profile: str) -> Iterator[None]:
    """The environment of a hub and binder/start, on two cores; in full sizes where the profile is "full"."""
    before = dict(os.environ)
    printed = subprocess.run(
        [ROOT / "binder" / "start", sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    os.environ.update(environment(**json.loads(printed)), MEM_LIMIT=f"{MOST:.0f}")
    if profile == "full":
        del os.environ["LEPTON_LAB_PROFILE"]
    try:
        with pinned(2):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Session:
    """A kernel behind a server, as a notebook in the browser has it: cells go through the server's socket."""

    def __init__(self, server: Jupyter, name: str) -> None:
        import websocket

        asked = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        request = urllib.request.Request(
            f"{server.url}/api/sessions?token={TOKEN}", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            kernel = json.loads(answer.read())["kernel"]["id"]
        self.id = uuid.uuid4().hex
        address = (
            f"ws{server.url.removeprefix('http')}/api/kernels/{kernel}/channels?token={TOKEN}&session_id={self.id}"
        )
        self.socket = websocket.create_connection(address, timeout=60)

    def run(self, code: str, deadline: float) -> None:
        """Run a cell to its end; raises Refused if it fails, or lasts beyond the deadline."""
        ours = uuid.uuid4().hex
        header = {"msg_id": ours, "username": "", "session": self.id, "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps(message))
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            message = self._receive()
            if message.get("parent_header", {}).get("msg_id") == ours and message["msg_type"] == "execute_reply":
                break
        if message["content"]["status"] != "ok":
            raise Refused(f"{message['content'].get('ename')}: {message['content'].get('evalue')}\nin the cell\n{code}")

    def _receive(self) -> dict[str, Any]:
        import websocket

        try:
            received = self.socket.recv()
        except websocket.WebSocketTimeoutException:
            raise Refused("it takes longer than it may") from None
        except (websocket.WebSocketException, OSError) as error:
            raise Refused(f"the server is gone: {error}") from None
        return json.loads(received) if isinstance(received, str) and received else {}

    def close(self) -> None:
        """Leave the server."""
        self.socket.close()


def measure(
    path: Path, profile: str, most: float = MOST, patience: float | None = None, data: Path | None = None
) -> Taken:
    """
    Run a notebook behind a server of its own, within the limits: of memory, and of seconds, which `patience` changes.

    It finds the data sets and weights of the folder `data`; without one, what is embedded or made.

    Raises
    ------
    Refused
        If a cell fails, or all together take more memory or time than they may.
    """
    folder = Path(tempfile.mkdtemp(prefix="lepton-lab-lesson-"))
    if data is not None:
        (folder / "data-sets").symlink_to(data.resolve())
    with as_on_binder(profile):
        server = Jupyter(folder)
        try:
            for book in (NOTEBOOKS / LANDING, path):
                shutil.copy(book, server.work)
            with Limit(server.process.pid, most) as limit:
                try:
                    seconds = read_through(server, path, time.monotonic() + (patience or SECONDS[profile]))
                except Refused as refusal:
                    if limit.exceeded:
                        raise Refused(f"{path.name} takes more than {most / 1e9:.2f} GB: {shown(limit)}") from None
                    raise Refused(f"{path.name}: {refusal}") from None
            return Taken(seconds, limit.peak, limit.peaks)
        finally:
            server.close()
            shutil.rmtree(folder, ignore_errors=True)


def read_through(server: Jupyter, path: Path, deadline: float) -> float:
    """Run a notebook's cells from start to end; returns the seconds they took."""
    landing, session = Session(server, LANDING), Session(server, path.name)
    try:
        start = time.monotonic()
        for code in sources(path):
            session.run(code, deadline)
        return time.monotonic() - start
    finally:
        session.close()
        landing.close()


def shown(limit: Limit) -> str:
    """What each role took, in words."""
    return ", ".join(f"{name} {bytes / 1e6:.0f} MB" for name, bytes in limit.peaks.items())


def row(path: Path, sizes: str, taken: Taken) -> str:
    """A line of the table."""
    name = path.relative_to(NOTEBOOKS).with_suffix("").as_posix()
    figures = [f"{taken.peaks[role] / 1e6:.0f}" for role in ROLES]
    return f"| {name} | {sizes} | {taken.seconds:.0f} s | {taken.peak / 1e6:.0f} | {' | '.join(figures)} |"


def update(page: str, rows: list[str]) -> str:
    """The page with these rows in its table, in place of the old ones of the same notebooks."""
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)

    def key(line: str) -> tuple[str, str]:
        return tuple(cell.strip() for cell in line.split("|")[1:3])

    found = {key(line): line for line in [*table.strip().splitlines()[2:], *rows]}
    lines = [f"| {' | '.join(HEADER)} |", "|" + " --- |" * len(HEADER), *(found[name] for name in sorted(found))]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def clock(path: Path, seconds: float) -> None:
    """Put the seconds that a notebook takes in full onto its card on the landing page."""
    landing = NOTEBOOKS / LANDING
    book = json.loads(landing.read_text())
    name = path.relative_to(NOTEBOOKS).as_posix()
    card = re.compile(rf'(<a href="{name}">(?:(?!<a ).)*?)\d+ s of computing', re.DOTALL)
    for cell in book["cells"]:
        cell["source"] = card.sub(rf"\g<1>{seconds:.0f} s of computing", "".join(cell["source"])).splitlines(
            keepends=True
        )
    write_text(landing, json.dumps(book, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Measure what is asked for, write it into page and cards; returns the exit code: 1 if one is over a limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lessons", description=__doc__)
    parser.add_argument("--only", default="", help="notebooks whose path holds this text")
    parser.add_argument("--profile", choices=SECONDS, action="append", help="sizes: both, if not given")
    parser.add_argument("--data", type=Path, help="folder of real data, as `lepton-lab data get` fills it")
    asked = parser.parse_args()
    if asked.data is not None and not (asked.data.is_dir() and any(asked.data.iterdir())):
        parser.error(f"--data {asked.data}: no folder with data in it")
    print(f"{len(cores())} cores, of which two are used; load {os.getloadavg()[0]:.1f}", flush=True)
    rows, failed = [], 0
    for path in (path for path in paths() if asked.only in str(path.relative_to(NOTEBOOKS))):
        for profile in asked.profile or SECONDS:
            try:
                taken = measure(path, profile, data=asked.data)
                rows.append(row(path, f"{profile}, real data" if asked.data else profile, taken))
                print(rows[-1], flush=True)
                if profile == "full" and not asked.data:
                    clock(path, taken.seconds)
            except Refused as refusal:
                failed += 1
                print(refusal, flush=True)
    write_text(PAGE, update(PAGE.read_text(), rows))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
