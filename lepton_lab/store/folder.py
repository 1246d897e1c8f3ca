"""The run folder: the truth of a run. Created, written atomically, tailed, and read back by every view."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import LabError, SpecError
from ..files import home, locked, read_json, remedy, remote, why, write_json
from ..spec import Spec
from .board import Board
from .events import Events
from .failure import Failure
from .keeping import Kept
from .objects import link, starting
from .objects.bucket import Bucket, refusal, usable
from .story import ENDED as ENDED
from .trust import close_to_others

FORMAT = 1
LIVE = ("queued", "starting", "running", "paused", "stopping")
AT_WORK = ("starting", "running", "stopping")  # states whose seconds count as the run's own
MEASURES = "measures.json"  # in the folder of a run of a chain: what was measured of its file, and of the dense control
LOOKS = "metrics.json"  # in the folder of a run with metrics of the user's own: what views must know of each, by name
STATE = "state.json"  # in the folder of a run: how it stands, and what became known on the way
LABELS = "labels.json"  # in the folder of a run: what people call it


class RunFolder(Events, Kept):
    """
    Read and write one run folder, which holds a `spec.json`; `world` ranks have it, if not as many as that says.

    Raises
    ------
    LabError
        If it is not a run folder, or was written by a newer version.
    """

    board: Board | None = None
    """By which ranks on several machines tell each other what can't wait."""

    def __init__(self, path: Path, world: int | None = None) -> None:
        self.path, self.id, self.world = path, path.name, world
        try:
            record = read_json(path / "spec.json")
        except OSError as error:
            raise LabError(f"run {self.id!r} can't be read ({why(error, path)}): ask whose it is") from None
        if record is None:
            raise LabError(f"{str(path)!r} is not a run folder: it has no spec.json")
        if record["format"] > FORMAT:
            raise LabError(
                f"run {self.id!r} was written by a newer Lepton Lab (format {record['format']}; this one reads up to "
                f"{FORMAT}): upgrade with `pip install -U lepton-lab`"
            )
        self.created: float = record["created"]
        self._read = self._stamp(), record["spec"]
        self._spec: Spec | None = None  # made when asked for, since many that wait never do

    @property
    def spec(self) -> Spec:  # type: ignore[override]  # read anew, never set
        """What the run is asked to do, as its file tells by now: a resume may change it."""
        stamp = self._stamp()
        if stamp not in (None, self._read[0]) and (record := read_json(self.path / "spec.json")):
            self._read, self._spec = (stamp, record["spec"]), None
        if self._spec is None:
            try:
                self._spec = Spec(**self._read[1])
            except SpecError:  # a table's entry is gone since: the run must still be readable
                self._spec = Spec.model_construct(**self._read[1])
            if self.world:
                self._spec = self._spec.replace(world=self.world)
        return self._spec

    def _stamp(self) -> tuple[int, int] | None:
        """What changes with the file of the spec; None if the folder is gone."""
        try:
            return (stat := (self.path / "spec.json").stat()).st_mtime_ns, stat.st_ino
        except OSError:
            return None

    @classmethod
    def create(cls, spec: Spec, prepare: Callable[[Path], None] | None = None, root: Path | None = None) -> RunFolder:
        """
        A fresh run folder.

        Parameters
        ----------
        spec
            Written into it.
        prepare
            Called with the folder before anyone can see it; if it raises, nothing is left.
        root
            Where it will lie, `home()/runs` if not given.

        Raises
        ------
        LabError
            If the root can't be written, or the store that LEPTON_LAB_HOME names can't.
        """
        if root is None and (address := remote()):
            usable(address)
        root = root or home() / "runs"
        draft = root / f".{secrets.token_hex(8)}"  # a name that nobody lists
        try:
            for part in ("events", "control", "checkpoints", "errors", "logs"):
                (draft / part).mkdir(parents=True)
            _write_spec(draft, spec, time.time())
            write_json(draft / STATE, {"state": "queued", "t": time.time()})
            if prepare:
                prepare(draft)
            close_to_others(draft)
            path = _settle(draft, root)
        except OSError as error:
            raise LabError(
                f"the run root {str(root)!r} can't be written ({why(error, root)}): "
                "set LEPTON_LAB_HOME to a folder that can"
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls(path)

    def rewrite(self, spec: Spec) -> None:
        """Put another spec in place of the one that the run was launched with."""
        _write_spec(self.path, spec, self.created)

    def lock(self, patience: float = 0.1) -> int | None:
        """
        Take the run for its supervisor: a file descriptor that holds the lock, or None if another holds it.

        Tried for `patience` seconds. The lock belongs to the open file: handed to the supervisor and inherited by its
        ranks, it frees when the last of them is dead, whatever killed them.

        Raises
        ------
        LabError
            If the file system knows no locks, the folder can't be written, or the run was deleted.
        """
        self.require()
        if link.alive(self.path):
            return None
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:  # another user's, or a disk that may only be read
            raise LabError(
                f"run {self.id!r} can't be changed: its folder {str(self.path)!r} can't be written by you "
                f"({why(error, self.path)}); make a copy of your own, and take that: cp -r {str(self.path)!r} into "
                "your LEPTON_LAB_HOME's runs"
            ) from None
        deadline = time.monotonic() + patience  # at least, since a reader of `alive` may hold it for an instant
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
            except OSError as error:
                os.close(descriptor)
                raise LabError(
                    f"the file system of {str(self.path.parent)!r} locks no files ({error.strerror}): set "
                    "LEPTON_LAB_HOME to a folder on a disk of this machine"
                ) from None
            time.sleep(0.005)

    @property
    def alive(self) -> bool:
        """Whether a supervisor, or what hands the run to one, has it now."""
        return locked(self.path / "lock") or link.alive(self.path)

    @property
    def labels(self) -> dict[str, Any]:
        """What people call it: name, tags, note, archived; each where it was given."""
        return read_json(self.path / LABELS) or {}

    def label(self, **labels: Any) -> None:
        """Change labels; another process that does so at the same time waits. LabError if they can't be written."""
        self.require()
        link.require_here(self.path, "labelled")
        try:
            with self._alone(LABELS):
                write_json(self.path / LABELS, {**self.labels, **labels})
            starting.begin()
        except OSError as error:
            raise LabError(
                f"the labels of run {self.id!r} can't be written ({why(error, self.path)}) and stay as they were: "
                f"{remedy(error)}, then do it again"
            ) from None

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Have other processes wait that change a file of this name, whose change would be lost."""
        with (self.path / f".{name}.lock").open("w") as file:
            with contextlib.suppress(OSError):  # a file system without locks, where no run can be live
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def gone(self) -> bool:
        """Whether the run was deleted."""
        return not self.path.is_dir()

    def require(self) -> None:
        """Refuse, with a LabError, what needs the folder of a run that was deleted."""
        if self.gone:
            raise LabError(f"run {self.id!r} was deleted: `lepton-lab list` shows those there are")

    def remove(self) -> None:
        """Remove the folder of a run that has ended, all at once: nobody sees a part of it. LabError if it can't be."""
        lock = self.lock()  # so that nobody resumes it meanwhile
        if lock is None:
            raise LabError(f"run {self.id!r} is {self.state}: stop it first, then delete it")
        doomed = self.path.with_name(f".{self.id}.deleted")
        address = link.address(self.path)
        try:
            self.path.rename(doomed)
            if address:
                self._withdraw(address, doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise LabError(
                f"run {self.id!r} can't be deleted whole: {error.filename!r} can't be removed ({error.strerror})"
            ) from None
        finally:
            os.close(lock)

    def _withdraw(self, address: str, doomed: Path) -> None:
        """Remove it from its store; where that can't be reached, its folder takes its place again."""
        try:
            Bucket(address).remove(f"runs/{self.id}")
        except Exception as error:  # of any library that fsspec builds on
            doomed.rename(self.path)
            raise LabError(f"run {self.id!r} can't be deleted from {refusal(address, error)}") from None

    @property
    def facts(self) -> dict[str, Any]:  # type: ignore[override]
        """What `state.json` holds: state, t, and once known steps, samples, shape, classes, checkpoint, failure."""
        return read_json(self.path / STATE) or {"state": "interrupted", "t": self.created}

    @property
    def state(self) -> str:
        """One of LIVE or ENDED; a run that nobody has any more, yet never ended, reads as interrupted."""
        state = self.facts["state"]
        if state in LIVE and not self.alive:
            state = self.facts["state"]  # it may have ended between the two looks
            return "interrupted" if state in LIVE else state
        return state

    def set_state(self, state: str, **facts: Any) -> None:
        """Write the state, keeping facts known before."""
        with self._alone(STATE):
            before, now = self.facts, time.time()
            # Who queues a run that was at work resumes one whose processes died, at about the time of its last event.
            died = state == "queued" and before["state"] in AT_WORK
            worked = self._worked(before, self._last_event(before) if died else now)
            self._write_facts({**before, "state": state, "t": now, "worked": worked, **facts})

    @property
    def worked(self) -> float:
        """
        Seconds that the run has worked: its processes were starting, training, evaluating or saving.

        Time in the queue, in pauses, and between an end and a resume does not count.
        """
        facts = self.facts
        return self._worked(facts, time.time() if self.alive else self._last_event(facts))

    def _worked(self, facts: dict[str, Any], now: float) -> float:
        """The seconds that `state.json` holds, and those since."""
        at_work = facts["state"] in AT_WORK
        return facts.get("worked", facts["t"] - self.created) + (max(now - facts["t"], 0.0) if at_work else 0.0)

    def _last_event(self, facts: dict[str, Any]) -> float:
        times = (path.stat().st_mtime for path in (self.path / "events").glob("*.jsonl"))
        return max(times, default=facts["t"])

    def note(self, **facts: Any) -> None:
        """Write facts beside the state, which stays; another process that writes some at the same time waits."""
        with self._alone(STATE):
            self._write_facts({**self.facts, **facts})

    def _write_facts(self, facts: dict[str, Any]) -> None:
        write_json(self.path / STATE, facts, indent=None)  # by C alone: written often, by processes that wait

    @property
    def failure(self) -> Failure | None:
        """Why the run failed, or None."""
        facts = self.facts
        return Failure(**facts["failure"]) if facts["state"] == "failed" and facts.get("failure") else None


def _settle(draft: Path, root: Path) -> Path:
    """Give a draft its id: of this second, and one that no other run drew."""
    while True:
        path = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        try:
            return draft.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _write_spec(path: Path, spec: Spec, created: float) -> None:
    write_json(path / "spec.json", {"format": FORMAT, "created": created, "spec": spec.to_dict()})
