"""The dense control of a chain: its parent, trained on for as long; and what chain and control write of themselves."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import operations
from ..errors import LabError
from ..files import read_json, write_json
from ..metrics import numbers
from ..store import shipping, trained
from ..store.folder import RunFolder
from ..store.log import Log
from ..store.trained import CONTROL, DONE, place
from ..store.trust import require_own
from .loop import Fit
from .position import Part

if TYPE_CHECKING:
    from .chain import Chain

FIGURES = "done.json"  # what a round ended with, beside its module
LOOKED = "looked"  # empty file: rank 0 has looked for the control among other runs
OF_RUN = (
    "compress",
    "name",
    "timeout",
    "workers",
    "prefetch",
    "checkpoint_every",
    "eval_every",
    "strategy",
    "world",
    "device",
)
"""Fields of a spec that leave the control as it is."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in the text of a module: another in each process
POLL = 0.02  # seconds between looks for what rank 0 makes


def control(chain: Chain) -> str:
    """Train the parent on for as many epochs as the chain did, or take that from another run; "done" or "stopped"."""
    here = place(chain.folder, CONTROL)
    here.mkdir(parents=True, exist_ok=True)
    labels = all(item.labels for item in chain.rounds)
    epochs = chain.epochs if labels else 0
    if chain.strategy.rank == 0 and not (here / LOOKED).exists():  # once: other ranks rely on what it found
        _look(chain, here, epochs)
        (here / LOOKED).touch()
    wait(here / LOOKED)
    return "done" if (here / DONE).exists() else _train(chain, here, epochs)


def _look(chain: Chain, here: Path, epochs: int) -> None:
    """Take the same control from another run, if one has it."""
    key = chain.spec.to_dict() | {"epochs": epochs, "chain": None}
    key = {name: value for name, value in key.items() if name not in OF_RUN} | _content(chain.folder)
    if not chain.strategy.exact:
        key |= {"strategy": chain.spec.strategy, "world": chain.spec.world}
    message, ended = f"trains the parent on for {epochs} epochs, to compare with", {}
    if epochs < chain.epochs:
        message = "the parent as it is, since labels are not to be looked at"
    if other := _done_before(chain.folder, key):
        message = f"taken from run {other.parents[1].name}"
        shutil.copy2(other / FIGURES, here)
        ended = read_json(here / FIGURES)
        shipping.keep(shipping.kept(other / DONE), here / DONE)
    write_json(here / "key.json", key)
    _note(chain, message, ended)


def _train(chain: Chain, here: Path, epochs: int) -> str:
    """Train the parent on, with a log of its own."""
    log = Log(here / f"rank{chain.strategy.rank}.jsonl", chain.strategy.rank)
    log.know(dict, **chain.facts)
    log.start(operations.waiting)
    chain.log.away = True
    try:
        begin = chain.epochs * chain.each
        part = Part(epochs, begin, 0, begin, control=chain.control)  # the run's steps are done
        fit = chain.fit(here, lambda: shipping.kept(trained.parent(chain.folder.path)), part, log, 0)
        if fit.run() == "stopped":
            return "stopped"
    finally:
        chain.log.away = False
        log.close()

    def finished() -> nn.Module:
        write_json(here / FIGURES, ended := figures(fit))
        _note(chain, "done", ended)
        return chain.result(here, fit)

    chain.once(here / DONE, finished)
    return "done"


def _note(chain: Chain, message: str, ended: dict[str, Any]) -> None:
    step = chain.epochs * chain.each
    chain.log.write("note", step=step, link=CONTROL, text=f"dense control: {message}", **ended)


def _content(folder: RunFolder) -> dict[str, Any]:
    """What the control is made of beside the spec: the parent's weights, which may have gone on, and shipped data."""
    content: dict[str, Any] = {"weights": digest(shipping.kept(trained.parent(folder.path)))}
    for name in ("data", "loss", "metrics"):
        if (path := folder.path / f"{name}.pkl").exists():
            with path.open("rb") as file:
                content[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return content


def _done_before(folder: RunFolder, key: dict[str, Any]) -> Path | None:
    """The same control in another run's folder."""
    for path in sorted(folder.path.parent.glob(f"*/{trained.LINKS}/{CONTROL}/{DONE}")):
        if path.parents[2] != folder.path and read_json(path.with_name("key.json")) == key:
            with contextlib.suppress(LabError):  # another user's, in a root that several share
                require_own(path)
                return path.parent
    return None


def figures(fit: Fit) -> dict[str, Any]:
    """Figures of a finished part on what it was not trained on."""
    return {split: numbers(row) | {"samples": row["samples"]} for split, row in fit.figures.items()}


def digest(module: nn.Module) -> int:
    """24 bits that tell modules apart: of their structure, weights and buffers."""
    checksum = zlib.crc32(ADDRESS.sub("", str(module)).encode())
    for name, value in module.state_dict().items():
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), checksum)
    return checksum & 0xFFFFFF


def wait(path: Path) -> None:
    """Until rank 0 has made a file."""
    while not path.exists():
        time.sleep(POLL)
